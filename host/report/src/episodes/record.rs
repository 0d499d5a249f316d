//! Episodes as they stand in a file, read leniently: a field that is missing is empty, one that is unknown is passed over. So the
//! episodes of older and newer versions are shown too.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// What the count needs of an episode.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Light<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub sample: Cow<'a, str>,
    pub category: Option<String>,
    #[serde(borrow)]
    pub calls: Vec<LightCall<'a>>,
    #[serde(borrow)]
    pub ending: Cow<'a, str>,
    pub reward: Option<Reward>,
}

/// What the count needs of a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LightCall<'a> {
    #[serde(borrow)]
    pub tool: Cow<'a, str>,
    #[serde(borrow)]
    pub digest: Cow<'a, str>,
    #[serde(borrow)]
    pub result: Cow<'a, str>,
    pub ok: bool,
    pub elapsed_ms: f64,
    pub shared: bool,
}

/// What the viewer shows of an episode.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Full {
    pub id: String,
    pub sample: String,
    pub category: Option<String>,
    pub question: String,
    pub ground_truth: String,
    pub candidate_answers: Vec<String>,
    pub tokens: Vec<u32>,
    pub mask: Vec<bool>,
    /// `null` stands for what is no number.
    pub logprobs: Vec<Option<f32>>,
    pub turns: Vec<Turn>,
    pub calls: Vec<Call>,
    pub calls_allowed: usize,
    pub ending: String,
    pub reward: Option<Reward>,
    pub image_digests: Vec<String>,
}

/// A turn of the policy.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Turn {
    pub start: usize,
    pub end: usize,
    pub text: String,
}

/// A tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    pub tool: String,
    pub argument: String,
    pub result: String,
    pub ok: bool,
    pub elapsed_ms: f64,
    pub shared: bool,
}

/// The reward's word.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Reward {
    Scored { scored: Scored },
    Abstained { abstained: String },
    Unknown(IgnoredAny),
}

/// Total and components.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Scored {
    pub total: f64,
    pub components: Vec<(String, f64)>,
}

impl Reward {
    pub fn scored(&self) -> Option<&Scored> {
        match self {
            Reward::Scored { scored } => Some(scored),
            Reward::Abstained { .. } | Reward::Unknown(_) => None,
        }
    }

    /// Why it abstained.
    pub fn abstained(&self) -> Option<&str> {
        match self {
            Reward::Abstained { abstained } => Some(abstained),
            Reward::Scored { .. } | Reward::Unknown(_) => None,
        }
    }
}

impl Scored {
    pub fn component(&self, name: &str) -> Option<f64> {
        self.components.iter().find(|(component, _)| component == name).map(|(_, value)| *value)
    }

    /// The accuracy; a reward without one is judged by its total.
    pub fn accuracy(&self) -> f64 {
        self.component("accuracy").unwrap_or(self.total)
    }

    /// Whether the answer counts as correct.
    pub fn correct(&self) -> bool {
        self.accuracy() >= 0.5
    }
}

/// Where an episode stands in its run: what its id says (`step=5/group=2/rollout=1`, `eval=base-test/rag/group=17/rollout=0`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The step, of a training episode.
    pub step: Option<usize>,
    /// The evaluation's label, of an evaluation's episode, e.g. `base-test/rag`; the file's name where the id says neither.
    pub label: String,
    pub group: usize,
    pub rollout: usize,
}

impl Place {
    pub fn of(id: &str, file: &str) -> Self {
        let mut place = Self { step: None, label: String::new(), group: 0, rollout: 0 };
        let mut label = Vec::new();
        for part in id.split('/') {
            match part.split_once('=') {
                Some(("step", step)) => place.step = step.parse().ok(),
                Some(("group", group)) => place.group = group.parse().unwrap_or(0),
                Some(("rollout", rollout)) => place.rollout = rollout.parse().unwrap_or(0),
                Some(("eval", name)) => label.push(name),
                _ => label.push(part),
            }
        }
        if place.step.is_none() {
            place.label = if label.is_empty() || !id.starts_with("eval=") { file.to_owned() } else { label.join("/") };
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_the_place() {
        let place = Place::of("step=150/group=3/rollout=7", "step-000150");
        assert_eq!(place, Place { step: Some(150), label: String::new(), group: 3, rollout: 7 });
        let place = Place::of("eval=base-test/on_demand/group=17/rollout=0", "base-test-on_demand");
        assert_eq!(place, Place { step: None, label: "base-test/on_demand".into(), group: 17, rollout: 0 });
        assert_eq!(Place::of("", "violation").label, "violation");
        assert_eq!(Place::of("<b>", "odd").label, "odd");
    }

    #[test]
    fn strange_rewards_are_no_rewards() {
        for (text, total) in [
            (r#"{"reward":{"scored":{"total":0.5,"components":[["accuracy",1.0]]}}}"#, Some(0.5)),
            (r#"{"reward":{"abstained":"late"}}"#, None),
            (r#"{"reward":3}"#, None),
            (r#"{"reward":null,"later_field":{"a":[1]}}"#, None),
        ] {
            let episode: Light = serde_json::from_str(text).unwrap();
            assert_eq!(episode.reward.as_ref().and_then(Reward::scored).map(|s| s.total), total, "{text}");
        }
    }
}
