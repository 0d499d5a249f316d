//! Which episodes the viewer holds: whole groups, spread over the run.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{Flag, Line};

/// Share of the limit that training keeps where evaluations alone would fill it.
const TRAINING_SHARE: f64 = 0.3;
/// Share of the training groups that is taken by faults first.
const FAULTS_SHARE: f64 = 0.25;

/// The chosen episodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Indexes of the chosen lines: training in the order of steps and groups, then evaluations by sample.
    pub lines: Vec<usize>,
    /// Training groups on record.
    pub training_groups: usize,
    /// Training groups chosen.
    pub training_groups_chosen: usize,
    /// Questions of evaluations on record.
    pub questions: usize,
    /// Questions of evaluations chosen, with the answers of every evaluation that asked them.
    pub questions_chosen: usize,
}

/// Chooses about `limit` of the episodes. Evaluations come whole if they fit; else evenly spread questions of theirs, each with every
/// answer. The rest are whole training groups: first some of those with faults, then evenly spread ones.
pub fn select(lines: &[Line], limit: usize) -> Selection {
    let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    let mut questions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        match line.step {
            Some(step) => groups.entry((step, line.group)).or_default().push(index),
            None => questions.entry(&line.sample).or_default().push(index),
        }
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let questions: Vec<Vec<usize>> = questions.into_values().collect();
    let num_training: usize = groups.iter().map(Vec::len).sum();
    let num_evaluation: usize = questions.iter().map(Vec::len).sum();

    let for_training = num_training.min(limit.saturating_sub(num_evaluation).max((TRAINING_SHARE * limit as f64) as usize));
    let chosen_questions = share_of(&questions, limit - for_training.min(limit));
    let chosen_groups = training_groups(lines, &groups, for_training);

    let mut selection = Selection {
        lines: Vec::new(),
        training_groups: groups.len(),
        training_groups_chosen: chosen_groups.len(),
        questions: questions.len(),
        questions_chosen: chosen_questions.len(),
    };
    selection.lines.extend(chosen_groups.iter().flat_map(|at| &groups[*at]));
    selection.lines.extend(chosen_questions.iter().flat_map(|at| &questions[*at]));
    selection
}

/// Indexes of evenly spread bundles that hold about `limit` episodes.
fn share_of(bundles: &[Vec<usize>], limit: usize) -> Vec<usize> {
    let total: usize = bundles.iter().map(Vec::len).sum();
    if total <= limit {
        return (0..bundles.len()).collect();
    }
    spread(bundles.len(), (bundles.len() as f64 * limit as f64 / total as f64) as usize)
}

fn training_groups(lines: &[Line], groups: &[Vec<usize>], limit: usize) -> BTreeSet<usize> {
    let total: usize = groups.iter().map(Vec::len).sum();
    if total <= limit {
        return (0..groups.len()).collect();
    }
    let room = (groups.len() as f64 * limit as f64 / total as f64) as usize;
    let faulty = |group: &Vec<usize>| group.iter().any(|line| lines[*line].flags & Flag::FAULTS != 0);
    let with_faults: Vec<usize> = (0..groups.len()).filter(|at| faulty(&groups[*at])).collect();
    let wanted = with_faults.len().min((FAULTS_SHARE * room as f64) as usize);
    let mut chosen: BTreeSet<usize> = spread(with_faults.len(), wanted).into_iter().map(|at| with_faults[at]).collect();
    let others: Vec<usize> = (0..groups.len()).filter(|at| !chosen.contains(at)).collect();
    let left = room - chosen.len();
    chosen.extend(spread(others.len(), left).into_iter().map(|at| others[at]));
    chosen
}

/// `count` of `0..n`: one of each of `count` equal stretches, at a place within it that follows no rhythm, since the groups of a step
/// have one (the sampler's cycle of classes).
fn spread(n: usize, count: usize) -> Vec<usize> {
    let count = count.min(n);
    let stretch = |i: usize| i * n / count;
    (0..count)
        .map(|i| {
            let (from, to) = (stretch(i), stretch(i + 1));
            // Fibonacci hashing of the stretch's number.
            let mixed = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            from + mixed as usize % (to - from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: Option<usize>, group: usize, sample: &str, flags: u32) -> Line {
        Line { file: 0, offset: 0, len: 0, step, group, sample: sample.to_owned(), flags, judged: Default::default() }
    }

    fn training(steps: usize, faulty: usize) -> Vec<Line> {
        let flags = |step: usize, group: usize| if step * 4 + group == faulty { Flag::ToolFailed.bit() } else { 0 };
        (0..steps)
            .flat_map(|step| (0..4).flat_map(move |group| (0..8).map(move |_| line(Some(step), group, "s", flags(step, group)))))
            .collect()
    }

    #[test]
    fn all_are_chosen_where_all_fit() {
        let mut lines = training(2, 0);
        lines.push(line(None, 0, "q", 0));
        let selection = select(&lines, 100);
        assert_eq!(selection.lines.len(), 65);
        assert_eq!((selection.training_groups, selection.training_groups_chosen), (8, 8));
    }

    #[test]
    fn groups_stay_whole_and_spread_and_faults_are_among_them() {
        let lines = training(100, 123);
        let selection = select(&lines, 400);
        assert_eq!(selection.training_groups_chosen, 50);
        assert_eq!(selection.lines.len(), 400, "whole groups of eight");
        assert!(selection.lines.contains(&(123 * 8)), "the one group with a failed tool");
        let steps: BTreeSet<usize> = selection.lines.iter().filter_map(|at| lines[*at].step).collect();
        assert!(steps.len() > 40 && *steps.first().unwrap() < 4 && *steps.last().unwrap() > 95, "{steps:?}");
        let groups: BTreeSet<usize> = selection.lines.iter().map(|at| lines[*at].group).collect();
        assert_eq!(groups.len(), 4, "no rhythm with the groups of a step");
    }

    #[test]
    fn evaluations_leave_room_for_training_and_keep_every_answer_to_a_question() {
        let mut lines = training(100, 0);
        for question in 0..500 {
            lines.extend((0..8).map(|_| line(None, question, &format!("q{question:04}"), 0)));
        }
        let selection = select(&lines, 1000);
        assert_eq!(selection.training_groups_chosen, 37);
        let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
        for at in &selection.lines {
            if lines[*at].step.is_none() {
                *answers.entry(&lines[*at].sample).or_default() += 1;
            }
        }
        assert_eq!(answers.len(), selection.questions_chosen);
        assert!(answers.values().all(|n| *n == 8) && answers.len() > 80, "{answers:?}");
    }
}
