//! What can go wrong in a training step, and what to do about it.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of this crate. Whatever it is, the weights and the optimiser are as they were before the update that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range.
    #[error("learner option `{field}` must be {expected}, found {found}")]
    Option {
        /// The option's name as it stands in the configuration.
        field: &'static str,
        /// The value given.
        found: String,
        /// The range it must lie in.
        expected: &'static str,
    },
    /// A KL weight above zero without a reference policy.
    #[error("`kl` is {kl} but no reference policy was given; pass a frozen copy of the base policy or set `kl = 0`")]
    NoReference {
        /// The KL weight.
        kl: f32,
    },
    /// A sequence breaks one of the rules that rollout and learner agree on.
    #[error("sequence {id}: {violation}")]
    Invariant {
        /// The episode's id, or `example N` for the N-th supervised example of the batch.
        id: String,
        /// The rule and how it is broken.
        violation: Violation,
    },
    /// Rollout and learner disagree on the probability of a sampled token.
    #[error(
        "episode {id}: log-probability of token {position} was {rollout} in the rollout and is {learner} in the learner, \
         a difference of {difference:.3e} where {tolerance:.3e} is allowed; weights, temperature or token ids differ \
         between them (to go on all the same, set `stop_on_logprob_diff = false`)"
    )]
    LogprobDifference {
        /// The episode with the largest difference of the batch.
        id: String,
        /// Index of the token in the episode.
        position: usize,
        /// Its log-probability when it was sampled.
        rollout: f32,
        /// Its log-probability now.
        learner: f32,
        /// `|rollout − learner|`.
        difference: f64,
        /// `max_logprob_diff`.
        tolerance: f64,
    },
    /// The loss is infinite or not a number.
    #[error(
        "step {step}: the loss of sequence {id} is {value}; the weights were left as they were (lower the learning rate, or go back to an earlier checkpoint)"
    )]
    NonFiniteLoss {
        /// Steps taken before this one.
        step: usize,
        /// The first sequence at fault.
        id: String,
        /// What came out.
        value: f64,
    },
    /// A gradient is infinite or not a number.
    #[error(
        "step {step}: the gradient of `{parameter}` is not finite; the weights were left as they were (lower the learning rate, or go back to an earlier checkpoint)"
    )]
    NonFiniteGradient {
        /// Steps taken before this one.
        step: usize,
        /// The first parameter at fault.
        parameter: String,
    },
    /// A worker thread could not be started.
    #[error("could not start {workers} learner threads: {source}")]
    Workers {
        /// How many were wanted.
        workers: usize,
        /// The cause.
        source: rayon::ThreadPoolBuildError,
    },
    /// A checkpoint file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A checkpoint file is damaged or belongs to another model.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, what to do.
        problem: String,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] mmhost_model::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// The id of the sequence that the error is about, for saving it before the run stops.
    pub fn sequence(&self) -> Option<&str> {
        match self {
            Error::Invariant { id, .. } | Error::LogprobDifference { id, .. } | Error::NonFiniteLoss { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// A rule of the data that rollout and learner share, and how a sequence breaks it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The mask is not one flag per token.
    #[error("the mask has {mask} flags for {tokens} tokens; every token needs one")]
    MaskLength {
        /// Flags.
        mask: usize,
        /// Tokens.
        tokens: usize,
    },
    /// The first token is marked as a target.
    #[error("the first token is marked as sampled, but nothing stands before it that could predict it")]
    FirstTokenMasked,
    /// An image token is marked as a target.
    #[error("token {position} is an image token and marked as sampled; images are never predicted")]
    ImageTokenMasked {
        /// Index of the token.
        position: usize,
    },
    /// Log-probabilities and mask do not fit together.
    #[error("{logprobs} log-probabilities for {sampled} sampled tokens; the mask must cover exactly the sampled tokens")]
    LogprobCount {
        /// Log-probabilities given.
        logprobs: usize,
        /// True flags in the mask.
        sampled: usize,
    },
    /// Image tokens and image features do not fit together.
    #[error("{tokens} image tokens for {features} image features of {images} images; was the text cut, or an image dropped?")]
    ImageTokens {
        /// Image tokens in the sequence.
        tokens: usize,
        /// Merged patches of its images.
        features: usize,
        /// Number of images.
        images: usize,
    },
    /// A log-probability is infinite, not a number, or above zero.
    #[error("the log-probability of sampled token {index} is {value}; it must be finite and not above 0")]
    Logprob {
        /// Index among the sampled tokens.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A reward is infinite or not a number.
    #[error("the reward is {value}; a reward must be finite (a reward that cannot be given is `None`)")]
    Reward {
        /// Its value.
        value: f64,
    },
}
