//! What rewards must keep, and how they can be cheated.

use super::battery::{self, answer, episode};
use super::{Checker, Level};
use crate::RewardPlugin;
use crate::types::{RewardInput, Verdict};

/// Rounding that totals may show.
const EPSILON: f64 = 1e-9;
/// Share of a right answer's advantage over a wrong one from which a trick is worth learning.
const TEMPTING: f64 = 0.5;

impl Checker {
    pub(super) async fn reward(&mut self, reward: &RewardPlugin) {
        self.reward_description(reward);
        let pairs = battery::pairs();
        let mut episodes = battery::nasty_episodes();
        for (name, right, wrong) in &pairs {
            episodes.push((format!("{name}, rightly"), right.clone()));
            episodes.push((format!("{name}, wrongly"), wrong.clone()));
        }
        let mut singles = Vec::new();
        for (name, episode) in &episodes {
            if let Some(verdict) = self.score(reward, name, episode).await {
                self.rating(reward, name, episode, &verdict);
                singles.push((name, episode, verdict));
            }
        }
        self.reward_batches(reward, &singles).await;
        let total = |wanted: &str| singles.iter().find(|(name, ..)| *name == wanted).and_then(|(.., verdict)| total(verdict));
        let scored: Vec<(String, Option<f64>, Option<f64>)> =
            pairs.iter().map(|(name, ..)| (name.clone(), total(&format!("{name}, rightly")), total(&format!("{name}, wrongly")))).collect();
        self.monotone(&scored);
        self.probes(reward).await;
    }

    fn reward_description(&mut self, reward: &RewardPlugin) {
        let spec = reward.spec();
        let place = format!("{}: `describe`", self.folder.display());
        if let Some(name) = spec.components.iter().enumerate().find_map(|(i, name)| spec.components[..i].contains(name).then_some(name)) {
            self.error(
                "description",
                &place,
                format!("the component {name:?} is named twice"),
                "records keep components by name",
                "rename one",
            );
        }
        if spec.lowest == spec.highest {
            let what = format!("lowest and highest total are both {}", spec.lowest);
            self.warning("description", &place, what, "a reward that never differs teaches nothing", "describe the range of totals");
        }
    }

    async fn score(&mut self, reward: &RewardPlugin, name: &str, episode: &RewardInput) -> Option<Verdict> {
        match reward.score(std::slice::from_ref(episode)).await {
            Err(error) => {
                self.failed("score", name, &error);
                None
            }
            Ok((mut verdicts, cost)) => {
                self.spent(cost);
                verdicts.pop()
            }
        }
    }

    /// One verdict against the self-description.
    fn rating(&mut self, reward: &RewardPlugin, name: &str, episode: &RewardInput, verdict: &Verdict) {
        let spec = reward.spec();
        match verdict {
            Verdict::Scored { total, components } => {
                if !(spec.lowest - EPSILON..=spec.highest + EPSILON).contains(total) {
                    self.error(
                        "bounds",
                        self.at("score", name),
                        format!("the total is {total}, outside of the described {} to {}", spec.lowest, spec.highest),
                        "one episode with a total out of range outweighs its whole group",
                        "bound the total, or describe the true range",
                    );
                }
                if !components.iter().map(|(name, _)| name).eq(&spec.components) {
                    let names: Vec<&String> = components.iter().map(|(name, _)| name).collect();
                    self.error(
                        "components",
                        self.at("score", name),
                        format!("the components are {names:?}, described are {:?}", spec.components),
                        "metrics average components by name over all episodes",
                        "give every scored episode the described components in their order",
                    );
                }
                let truths = std::iter::once(&episode.ground_truth).chain(&episode.candidate_answers);
                if truths.into_iter().all(|truth| truth.trim_ascii().is_empty()) {
                    self.warning(
                        "no-truth",
                        self.at("score", name),
                        format!("an episode without a reference answer is scored with {total}"),
                        "the policy is taught by a number that says nothing about its answer",
                        "abstain",
                    );
                }
            }
            Verdict::Abstained(reason) if crate::reward::is_not_finite(reason) => self.error(
                "finite",
                self.at("score", name),
                reason.clone(),
                "a total that is not finite poisons its whole group; the host masks the episode",
                "guard divisions and logarithms, or abstain with a reason of your own",
            ),
            Verdict::Abstained(_) => {}
        }
    }

    /// Verdicts must depend neither on the batch, nor on its order, nor on what was scored before.
    async fn reward_batches(&mut self, reward: &RewardPlugin, singles: &[(&String, &RewardInput, Verdict)]) {
        let batch: Vec<RewardInput> = singles.iter().map(|(_, episode, _)| (*episode).clone()).collect();
        let backwards: Vec<RewardInput> = batch.iter().rev().cloned().collect();
        let (forth, back) = match (reward.score(&batch).await, reward.score(&backwards).await) {
            (Ok((forth, cost)), Ok((back, _))) => {
                self.spent(cost);
                (forth, back)
            }
            (Err(error), _) | (_, Err(error)) => return self.failed("score", "every episode of the battery in one batch", &error),
        };
        let differs = |verdicts: &mut dyn Iterator<Item = &Verdict>| {
            singles.iter().zip(verdicts).find(|((.., single), other)| single != *other).map(|((name, _, single), other)| {
                (name.to_string(), format!("alone the episode is {}, in a batch {}", said(single), said(other)))
            })
        };
        if let Some((name, what)) = differs(&mut forth.iter()) {
            let why = "the host cuts batches as it likes; a verdict that depends on them is not about the episode";
            self.error("batch", self.at("score", &name), what, why, "score each episode by itself");
        } else if let Some((name, what)) = differs(&mut back.iter().rev()) {
            let why = "the order of a batch means nothing";
            self.error("order", self.at("score", &name), format!("in reverse order, {what}"), why, "score each episode by itself");
        }
        let Some((name, episode, single)) = singles.last() else { return };
        if let Some(again) = self.score(reward, name, episode).await
            && again != *single
        {
            self.error(
                "determinism",
                self.at("score", name),
                format!("the same episode in a fresh instance is {}, then {}", said(single), said(&again)),
                "a run cannot be repeated",
                "derive the verdict from the episode and the configuration alone",
            );
        }
        if let Ok(verdicts) = reward.score_in_one_instance(&[&batch[..1], &batch[1..], &batch[..1]]).await
            && verdicts.first() != verdicts.last()
        {
            self.stateful("score");
        }
    }

    /// A right answer never earns less than a wrong one in the same episode.
    fn monotone(&mut self, pairs: &[(String, Option<f64>, Option<f64>)]) {
        for (name, right, wrong) in pairs {
            if let (Some(right), Some(wrong)) = (right, wrong)
                && right + EPSILON < *wrong
            {
                self.error(
                    "monotone",
                    self.at("score", name),
                    format!("the right answer earns {right}, a wrong one in the same episode {wrong}"),
                    "the policy would be taught to answer wrongly",
                    "let nothing but the answer differ in favour of the wrong one",
                );
            }
        }
        if !pairs.iter().any(|(_, right, wrong)| matches!((right, wrong), (Some(right), Some(wrong)) if right > wrong)) {
            self.warning(
                "signal",
                self.at("score", "right and wrong answers"),
                "no right answer earns more than a wrong one",
                "the reward cannot teach to answer rightly by itself",
                "compare the answer, between <answer> and </answer>, with the truth; or use the reward beside another one",
            );
        }
    }

    /// Tricks that a policy finds by itself.
    async fn probes(&mut self, reward: &RewardPlugin) {
        let truth = "Lima";
        let one = |turn: String| episode(truth, &[], &turn);
        let baseline = (
            self.score(reward, "a right answer", &one(answer(truth))).await,
            self.score(reward, "a wrong answer", &one(answer("Bogotá"))).await,
        );
        let (Some(right), Some(wrong)) = (baseline.0.as_ref().and_then(total), baseline.1.as_ref().and_then(total)) else { return };
        if right <= wrong {
            // There is nothing to win by cheating; `monotone` has said so.
            return;
        }
        let hedges = format!("{}{}", answer("Bogotá"), "<answer>Lima</answer>");
        let probes = [
            ("the right answer three times in one", answer("Lima Lima Lima")),
            ("every option listed", answer("Quito, Bogotá, Lima or Caracas")),
            ("a wrong answer, then the right one", hedges),
            ("the right answer, then a wrong one", format!("{}{}", answer("Lima"), "<answer>Bogotá</answer>")),
            ("nested answers, a wrong one outside", answer("Bogotá <answer>Lima</answer>")),
            (
                "a tool's output echoed as the answer",
                answer("1. Peru is a country in South America. Its capital is Lima. Its currency is the sol."),
            ),
            ("the right answer in the reason only", "<reason>It is Lima. <answer>Lima</answer></reason><answer>unknown</answer>".into()),
            ("the right answer in the reason, none given", "<reason>The answer is Lima.</reason>".into()),
            ("the question echoed as the answer", answer("What is asked?")),
            ("the tags of an answer without one", answer("")),
        ];
        for (name, turn) in probes {
            let Some(found) = self.score(reward, name, &one(turn)).await.as_ref().and_then(total) else { continue };
            let share = (found - wrong) / (right - wrong);
            let level = match share {
                share if share > 1.0 + EPSILON => Level::Error,
                share if share > TEMPTING => Level::Warning,
                _ => continue,
            };
            self.find(
                level,
                "hackable",
                self.at("score", name),
                format!("earns {found:.3}; an honest right answer earns {right:.3}, a wrong one {wrong:.3}"),
                "a policy in training finds whatever pays, and stops answering",
                "accept one answer, and compare all of it; if the trick is meant to count, know that it will be learned",
            );
        }
    }
}

fn total(verdict: &Verdict) -> Option<f64> {
    match verdict {
        Verdict::Scored { total, .. } => Some(*total),
        Verdict::Abstained(_) => None,
    }
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Scored { total, .. } => format!("scored with {total}"),
        Verdict::Abstained(reason) => format!("abstained from ({reason})"),
    }
}
