//! Asking a policy the questions of a split, and what its episodes amount to.

use std::path::Path;

use mmhost_plugins::Verdict;
use mmhost_report::{Observation, SplitMetrics};
use mmhost_rollout::{Episode, EpisodeWriter, Task, Workflow};

use crate::failure::{Blame, Outcome, bad_input};
use crate::sampler::{Purpose, derive_seed};
use crate::session::{Policy, Session, ToolRoles};

/// One evaluation.
pub struct Evaluation {
    /// Its metrics.
    pub metrics: SplitMetrics,
    /// One episode per question, scored.
    pub episodes: Vec<Episode>,
}

/// Rolls out one episode of each task and scores it. `temperature` 0 is greedy.
pub async fn evaluate(
    session: &Session,
    policy: &Policy,
    tasks: &[Task],
    workflow: Workflow,
    temperature: f32,
    label: &str,
) -> Outcome<Evaluation> {
    let seed = derive_seed(session.config.seed, Purpose::Evaluation, 0);
    let groups = policy.roller.run(tasks, 1, workflow, temperature, seed, label).await;
    let groups = groups.internal(format!("the evaluation {label} failed"))?;
    let mut episodes: Vec<Episode> = groups.into_iter().flatten().collect();
    mmhost_rollout::score(&session.reward, &mut episodes.iter_mut().collect::<Vec<_>>()).await;
    session.check()?;
    let metrics = metrics(&episodes, &session.roles, label)?;
    Ok(Evaluation { metrics, episodes })
}

/// Stores episodes as `DIR/NAME.jsonl`, synced.
pub fn store_episodes(dir: &Path, name: &str, episodes: &[Episode]) -> Outcome<()> {
    let doing = || format!("cannot store the episodes {name} in {}", dir.display());
    let mut writer = EpisodeWriter::create(dir, name).input(doing())?;
    episodes.iter().try_for_each(|e| writer.write(e)).and_then(|()| writer.sync()).input(doing())
}

/// Metrics of scored episodes.
pub fn metrics(episodes: &[Episode], roles: &ToolRoles, label: &str) -> Outcome<SplitMetrics> {
    let observations: Vec<Observation> = episodes.iter().filter_map(|e| observe(e, roles)).collect();
    SplitMetrics::of(&observations, episodes.len() - observations.len()).ok_or_else(|| {
        let why = episodes.iter().find_map(|e| match &e.reward {
            Some(Verdict::Abstained(reason)) => Some(format!(", first with: {reason}")),
            _ => None,
        });
        bad_input(format!("the reward scored none of the {} episodes of {label}{}", episodes.len(), why.unwrap_or_default()))
    })
}

/// What one scored episode says; `None` if its reward abstained.
fn observe(episode: &Episode, roles: &ToolRoles) -> Option<Observation> {
    let Some(Verdict::Scored { total, components }) = &episode.reward else { return None };
    let component = |name: &str| components.iter().find(|(n, _)| n == name).map(|(_, value)| *value);
    let calls_of = |tool: &Option<String>| episode.calls.iter().filter(|c| Some(&c.tool) == tool.as_ref()).count();
    Some(Observation {
        class: episode.category.clone(),
        // A reward without an accuracy of its own is judged by its total.
        accuracy: component("accuracy").unwrap_or(*total),
        format: component("format"),
        image_searches: calls_of(&roles.image_search),
        text_searches: calls_of(&roles.text_search),
        calls: episode.calls.len(),
        calls_allowed: episode.calls_allowed,
    })
}
