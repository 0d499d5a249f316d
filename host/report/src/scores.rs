//! What other rewards said of a run's episodes: `RUN/scores/NAME.jsonl`, written by `mmhost score --keep`.
//!
//! The first line tells the reward and its digest, every other one an episode's id, the verdict, and the total that was stored with the
//! episode then, so that verdicts on an episode that has been done again since are noticed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::episodes::{Judged, Reward};

/// Folder within a run directory.
pub const SCORES_DIR: &str = "scores";
/// Totals differ materially from here on.
const MATERIAL: f64 = 0.05;

/// The first line of a file of scores.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScoresHead {
    /// Name of the reward.
    pub reward: String,
    /// SHA-256 of its component.
    pub digest: String,
    /// Episodes that it was asked about.
    pub episodes: usize,
}

/// The file of a reward's scores.
pub fn score_file(run: &Path, reward: &str) -> PathBuf {
    run.join(SCORES_DIR).join(format!("{reward}.jsonl"))
}

/// One episode's line.
#[derive(Deserialize)]
struct ScoreLine {
    id: String,
    #[serde(default)]
    stored: Option<f64>,
    reward: Reward,
}

/// One reward's word on the episodes of a run.
#[derive(Debug)]
pub(crate) struct Scores {
    pub head: ScoresHead,
    verdicts: HashMap<String, (Reward, Option<f64>)>,
}

/// How two rewards agree, over all episodes that both were asked about.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct Agreement {
    reward: String,
    digest: String,
    /// Episodes that both scored.
    both: usize,
    /// Both call it right; only the stored one; only the other; neither.
    right: [usize; 4],
    /// Totals that differ by more than 0.05.
    differ: usize,
    /// Mean totals, stored and other, where both scored.
    stored_mean: f64,
    other_mean: f64,
    /// Episodes that the stored or the other reward abstained on.
    abstained: [usize; 2],
    /// Episodes that were not scored, or whose stored reward has changed since.
    stale: usize,
}

impl Scores {
    /// Reads every file of scores of a run; what cannot be read is named in `problems`.
    pub fn read_all(run: &Path, problems: &mut Vec<String>) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(run.join(SCORES_DIR)) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        paths.sort();
        paths.iter().filter_map(|path| Self::read(path, problems)).collect()
    }

    fn read(path: &Path, problems: &mut Vec<String>) -> Option<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                problems.push(format!("scores/{name} cannot be read: {error}."));
                return None;
            }
        };
        let mut lines = text.lines().enumerate();
        let head = match lines.next().map(|(_, line)| serde_json::from_str::<ScoresHead>(line)) {
            Some(Ok(head)) => head,
            Some(Err(error)) => {
                problems.push(format!("scores/{name} is left out, its first line names no reward: {error}."));
                return None;
            }
            None => {
                problems.push(format!("scores/{name} is empty."));
                return None;
            }
        };
        let mut verdicts = HashMap::with_capacity(head.episodes.min(1 << 20));
        let mut damaged = Vec::new();
        for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str::<ScoreLine>(line) {
                Ok(line) => drop(verdicts.insert(line.id, (line.reward, line.stored))),
                Err(_) => damaged.push(index + 1),
            }
        }
        if let Some(first) = damaged.first() {
            problems.push(format!("scores/{name}: {} damaged line(s) are left out, the first is line {first}.", damaged.len()));
        }
        if damaged.is_empty() && verdicts.len() != head.episodes {
            problems.push(format!("scores/{name} should hold {} episodes and holds {}.", head.episodes, verdicts.len()));
        }
        Some(Self { head, verdicts })
    }

    /// The verdict on an episode whose stored total is `stored`; `None` where there is none, or none that still counts.
    pub fn verdict(&self, id: &str, stored: Option<f64>) -> Option<&Reward> {
        let (reward, then) = self.verdicts.get(id)?;
        (then.map(f64::to_bits) == stored.map(f64::to_bits)).then_some(reward)
    }

    /// How this reward agrees with the stored one.
    pub fn agreement<'a>(&self, episodes: impl Iterator<Item = &'a Judged>) -> Agreement {
        let mut found = Agreement { reward: self.head.reward.clone(), digest: self.head.digest.clone(), ..Agreement::default() };
        for episode in episodes {
            let Some(other) = self.verdict(&episode.id, episode.total) else {
                found.stale += 1;
                continue;
            };
            found.abstained[0] += usize::from(episode.total.is_none());
            found.abstained[1] += usize::from(other.scored().is_none());
            let (Some(total), Some(accuracy), Some(other)) = (episode.total, episode.accuracy, other.scored()) else { continue };
            found.both += 1;
            found.stored_mean += total;
            found.other_mean += other.total;
            found.differ += usize::from((total - other.total).abs() > MATERIAL);
            let place = match (accuracy >= 0.5, other.correct()) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            found.right[place] += 1;
        }
        let n = found.both.max(1) as f64;
        found.stored_mean /= n;
        found.other_mean /= n;
        found
    }

    /// The sentence on verdicts that are missing or do not count any more.
    pub fn stale(&self, agreement: &Agreement) -> Option<String> {
        let (reward, stale) = (&self.head.reward, agreement.stale);
        (stale > 0).then(|| {
            format!("scores/{reward}.jsonl tells nothing of {stale} episode(s) that are new or were done again since; score them again.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(id: &str, total: Option<f64>) -> Judged {
        Judged { id: id.into(), total, accuracy: total.map(f64::round) }
    }

    #[test]
    fn agreement_is_counted_and_stale_or_damaged_lines_are_told() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("scores")).unwrap();
        let line = |id: &str, stored: f64, total: f64| {
            format!(r#"{{"id":"{id}","stored":{stored},"reward":{{"scored":{{"total":{total},"components":[["accuracy",{total}]]}}}}}}"#)
        };
        let head = r#"{"reward":"other","digest":"ab","episodes":6}"#;
        let abstained = r#"{"id":"e","stored":1.0,"reward":{"abstained":"late"}}"#;
        let text = [head, &line("a", 0.9, 0.92), &line("b", 0.9, 0.1), &line("c", 0.1, 1.0), &line("d", 0.1, 0.0), abstained, "nonsense"];
        fs::write(score_file(run.path(), "other"), text.join("\n")).unwrap();
        fs::write(score_file(run.path(), "broken"), "{\"rew").unwrap();
        let mut problems = Vec::new();
        let scores = Scores::read_all(run.path(), &mut problems);
        assert_eq!(scores.len(), 1);
        assert!(problems.iter().any(|p| p.contains("broken.jsonl is left out")), "{problems:?}");
        assert!(problems.iter().any(|p| p.contains("other.jsonl: 1 damaged line(s)") && p.contains("line 7")), "{problems:?}");

        let episodes =
            [judged("a", Some(0.9)), judged("b", Some(0.9)), judged("c", Some(0.1)), judged("d", Some(0.2)), judged("e", Some(1.0))];
        let agreement = scores[0].agreement(episodes.iter());
        assert_eq!((agreement.both, agreement.right, agreement.differ), (3, [1, 1, 1, 0], 2));
        assert_eq!((agreement.stale, agreement.abstained), (1, [0, 1]), "d has another total now");
        assert!((agreement.other_mean - 2.02 / 3.0).abs() < 1e-12);
        assert!(scores[0].stale(&agreement).unwrap().contains("1 episode(s)"));
    }
}
