//! Drops samples that cannot be trained on (no image, no answer, images out of bounds) and tags the rest.

use mmhost_sdk::filter::{Decision, Description, Filter, FilterError, Sample};
use mmhost_sdk::{ConfigError, bad_value};

/// The manifest documents each field.
#[derive(miniserde::Deserialize)]
struct Config {
    require_image: bool,
    require_answer: bool,
    min_side: u32,
    max_side: u32,
    max_pixels: u64,
    max_aspect_ratio: u32,
    max_images: usize,
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        if self.min_side > self.max_side {
            return Err(bad_value("min_side", self.min_side, "at most max_side"));
        }
        if self.max_aspect_ratio == 0 {
            return Err(bad_value("max_aspect_ratio", 0, "at least 1"));
        }
        Ok(())
    }
}

struct SampleFilter;

impl Filter for SampleFilter {
    type Config = Config;

    fn describe(config: &Config) -> Result<Description, ConfigError> {
        config.check()?;
        Ok(Description {
            summary: "drops samples without image or answer or with images out of bounds".into(),
            tags: ["no-image", "single-image", "multi-image", "candidates"].map(String::from).into(),
        })
    }

    fn filter(config: &Config, batch: Vec<Sample>) -> Result<Vec<Decision>, FilterError> {
        config.check()?;
        Ok(batch
            .iter()
            .map(|sample| match fault(config, sample) {
                Some(reason) => Decision::Drop(reason),
                None => Decision::Keep(tags(sample)),
            })
            .collect())
    }
}

/// Why a sample must go, if it must.
fn fault(config: &Config, sample: &Sample) -> Option<String> {
    if sample.question.trim().is_empty() {
        return Some("no question".into());
    }
    let answers = || std::iter::once(&sample.ground_truth).chain(&sample.candidate_answers);
    if config.require_answer && answers().all(|answer| answer.trim().is_empty()) {
        return Some("no answer".into());
    }
    if config.require_image && sample.images.is_empty() {
        return Some("no image".into());
    }
    if sample.images.len() > config.max_images {
        return Some(format!("{} images, at most {}", sample.images.len(), config.max_images));
    }
    sample.images.iter().enumerate().find_map(|(index, image)| {
        let number = index + 1;
        let size = match image.dimensions() {
            Ok(size) => size,
            Err(_) => return Some(format!("image {number} does not decode")),
        };
        let (short, long) = (size.width.min(size.height), size.width.max(size.height));
        let found = format!("image {number} is {}x{}", size.width, size.height);
        if short < config.min_side.max(1) {
            Some(format!("{found}, shortest side at least {}", config.min_side.max(1)))
        } else if long > config.max_side {
            Some(format!("{found}, longest side at most {}", config.max_side))
        } else if u64::from(short) * u64::from(long) > config.max_pixels {
            Some(format!("{found}, at most {} pixels", config.max_pixels))
        } else if u64::from(long) > u64::from(short) * u64::from(config.max_aspect_ratio) {
            Some(format!("{found}, aspect ratio at most {}", config.max_aspect_ratio))
        } else {
            None
        }
    })
}

fn tags(sample: &Sample) -> Vec<String> {
    let images = match sample.images.len() {
        0 => "no-image",
        1 => "single-image",
        _ => "multi-image",
    };
    let mut tags = vec![images.to_string()];
    if sample.candidate_answers.iter().any(|answer| !answer.trim().is_empty()) {
        tags.push("candidates".into());
    }
    tags
}

mmhost_sdk::export_filter!(SampleFilter);
