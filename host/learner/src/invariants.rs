//! What rollout and learner must agree on, checked before any tensor is made.

use crate::{Error, Result, Trajectory, Violation};
use mmhost_model::{ModelConfig, Segment};

/// Rounding may leave the log-probability of a certain token a little above zero.
const LOGPROB_SLACK: f32 = 1e-4;

/// What the checks need of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Token that stands for one image feature.
    pub image_token: u32,
    /// Patches along one side of a merged patch.
    pub merge_size: u32,
}

impl Rules {
    /// Those of a model.
    pub fn of(config: &ModelConfig) -> Self {
        Self { image_token: config.tokens.image, merge_size: config.vision.spatial_merge_size as u32 }
    }

    /// Features of the images of a sequence.
    pub fn image_features(&self, segment: &Segment) -> usize {
        segment.images.iter().map(|image| image.num_tokens(self.merge_size)).sum()
    }

    /// Image tokens match image features; the mask has one flag per token and marks neither the first token nor an image token.
    pub fn check_sequence(&self, segment: &Segment, mask: &[bool]) -> std::result::Result<(), Violation> {
        let tokens = &segment.tokens;
        if mask.len() != tokens.len() {
            return Err(Violation::MaskLength { mask: mask.len(), tokens: tokens.len() });
        }
        if mask.first() == Some(&true) {
            return Err(Violation::FirstTokenMasked);
        }
        let mut image_tokens = 0;
        for (position, (&token, &target)) in tokens.iter().zip(mask).enumerate() {
            if token == self.image_token {
                if target {
                    return Err(Violation::ImageTokenMasked { position });
                }
                image_tokens += 1;
            }
        }
        let features = self.image_features(segment);
        if image_tokens != features {
            return Err(Violation::ImageTokens { tokens: image_tokens, features, images: segment.images.len() });
        }
        Ok(())
    }

    /// [`Rules::check_sequence`], and: one finite log-probability per sampled token, a finite reward if any.
    pub fn check_trajectory(&self, trajectory: &Trajectory) -> Result<()> {
        let Trajectory { segment, mask, logprobs, reward, id } = trajectory;
        let check = || {
            self.check_sequence(segment, mask)?;
            let sampled = mask.iter().filter(|&&target| target).count();
            if logprobs.len() != sampled {
                return Err(Violation::LogprobCount { logprobs: logprobs.len(), sampled });
            }
            if let Some(index) = logprobs.iter().position(|p| !p.is_finite() || *p > LOGPROB_SLACK) {
                return Err(Violation::Logprob { index, value: logprobs[index] });
            }
            match reward {
                Some(value) if !value.is_finite() => Err(Violation::Reward { value: *value }),
                _ => Ok(()),
            }
        };
        check().map_err(|violation| Error::Invariant { id: id.clone(), violation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmhost_model::ImageInput;
    use std::sync::Arc;

    const IMAGE: u32 = 9;
    const RULES: Rules = Rules { image_token: IMAGE, merge_size: 2 };

    fn sound() -> Trajectory {
        let image = Arc::new(ImageInput { pixel_values: vec![], grid_thw: [1, 4, 2] });
        Trajectory {
            segment: Segment { tokens: vec![1, IMAGE, IMAGE, 2, 3, 4], images: vec![image] },
            mask: vec![false, false, false, false, true, true],
            logprobs: vec![-0.5, 0.0],
            reward: Some(1.0),
            id: "group=1/rollout=2".into(),
        }
    }

    #[test]
    fn each_broken_rule_is_named_with_the_episode() {
        RULES.check_trajectory(&sound()).unwrap();
        let broken = |change: fn(&mut Trajectory)| {
            let mut trajectory = sound();
            change(&mut trajectory);
            match RULES.check_trajectory(&trajectory).unwrap_err() {
                Error::Invariant { id, violation } => {
                    assert_eq!(id, "group=1/rollout=2");
                    violation
                }
                error => panic!("{error}"),
            }
        };
        assert_eq!(broken(|t| t.mask.push(false)), Violation::MaskLength { mask: 7, tokens: 6 });
        assert_eq!(broken(|t| t.mask[0] = true), Violation::FirstTokenMasked);
        assert_eq!(broken(|t| t.mask[2] = true), Violation::ImageTokenMasked { position: 2 });
        assert_eq!(broken(|t| t.logprobs.truncate(1)), Violation::LogprobCount { logprobs: 1, sampled: 2 });
        assert_eq!(broken(|t| t.mask[3] = true), Violation::LogprobCount { logprobs: 2, sampled: 3 });
        assert_eq!(broken(|t| t.segment.tokens[1] = 5), Violation::ImageTokens { tokens: 1, features: 2, images: 1 });
        assert_eq!(broken(|t| t.segment.images.clear()), Violation::ImageTokens { tokens: 2, features: 0, images: 0 });
        assert_eq!(broken(|t| t.logprobs[1] = 0.5), Violation::Logprob { index: 1, value: 0.5 });
        assert_eq!(broken(|t| t.reward = Some(f64::INFINITY)), Violation::Reward { value: f64::INFINITY });
        assert!(matches!(broken(|t| t.logprobs[0] = f32::NAN), Violation::Logprob { index: 0, .. }));
    }
}
