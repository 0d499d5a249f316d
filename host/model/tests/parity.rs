//! Equality with transformers on tiny random models. `fixtures/generate.py` made the expected values and says how.
//!
//! What each equality proves: equal token ids, the chat template and the tokenizer; equal positions, M-RoPE's bookkeeping;
//! equal pixels, the image processor where nothing is resized; equal logits, every layer of both towers; equal gradients,
//! every backward. A cached decode that gives the reference's greedy tokens proves the cache and the positions after images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, IndexOp, Tensor};
use mmhost_model::{
    GenerateOptions, ImageProcessor, KvCache, Message, ModelFolder, Packed, PositionCursor, Qwen2_5Vl, Segment, generate, read_image,
    read_messages,
};

const CASES: [&str; 4] = ["text", "one_image", "several_images", "later_turn"];
/// Largest accepted difference of a logit.
const LOGITS: f32 = 1e-3;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

struct Fixture {
    folder: ModelFolder,
    dir: PathBuf,
    expected: HashMap<String, Tensor>,
}

impl Fixture {
    fn both() -> [Self; 2] {
        ["tied", "untied"].map(|name| {
            let dir = fixtures().join(name);
            let folder = ModelFolder::load(&dir, &Device::Cpu).unwrap();
            let expected = candle_core::safetensors::load(dir.join("expected.safetensors"), &Device::Cpu).unwrap();
            Self { folder, dir, expected }
        })
    }

    fn messages(&self, case: &str) -> Vec<Message> {
        read_messages(&self.dir.join(format!("{case}.json")), &self.folder.processor).unwrap()
    }

    fn segment(&self, case: &str) -> Segment {
        self.folder.processor.encode_chat(&self.messages(case), true).unwrap()
    }

    fn packed(&self, case: &str) -> Packed {
        let mut batch = Packed::default();
        self.push(&mut batch, &self.segment(case));
        batch
    }

    fn push(&self, batch: &mut Packed, segment: &Segment) {
        let positions = PositionCursor::default().extend(&self.folder.config, &segment.tokens, &segment.images).unwrap();
        batch.push(&segment.tokens, &positions, &segment.images);
    }

    fn model(&self) -> Qwen2_5Vl {
        Qwen2_5Vl::new(&self.folder.config, &self.folder.weights).unwrap()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.expected[name].to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect()
    }
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn a_conversation_becomes_the_same_tokens() {
    for fixture in Fixture::both() {
        for case in CASES {
            assert_eq!(fixture.segment(case).tokens, fixture.ids(&format!("{case}.input_ids")), "{case}");
        }
    }
}

#[test]
fn every_token_has_the_same_position() {
    for fixture in Fixture::both() {
        for case in CASES {
            let expected = fixture.expected[&format!("{case}.positions")].to_vec2::<i64>().unwrap();
            let found: Vec<Vec<i64>> = fixture.packed(case).positions.iter().map(|p| p.iter().map(|&x| i64::from(x)).collect()).collect();
            assert_eq!(found, expected, "{case}");
        }
    }
}

#[test]
fn positions_do_not_depend_on_how_a_sequence_was_extended() {
    let [fixture, _] = Fixture::both();
    let segment = fixture.segment("later_turn");
    let whole = PositionCursor::default().extend(&fixture.folder.config, &segment.tokens, &segment.images).unwrap();
    // Cut after the first image, in the middle of the conversation.
    let image = fixture.folder.config.tokens.vision_end;
    let cut = segment.tokens.iter().position(|&id| id == image).unwrap() + 3;
    let mut cursor = PositionCursor::default();
    let mut parts = cursor.extend(&fixture.folder.config, &segment.tokens[..cut], &segment.images[..1]).unwrap();
    parts.extend(cursor.extend(&fixture.folder.config, &segment.tokens[cut..], &segment.images[1..]).unwrap());
    assert_eq!(parts, whole);
}

#[test]
fn pixels_are_equal_where_nothing_is_resized() {
    for fixture in Fixture::both() {
        for case in ["one_image", "several_images", "later_turn"] {
            let all: Vec<f32> = fixture.segment(case).images.iter().flat_map(|image| image.pixel_values.clone()).collect();
            let every: Vec<f32> = all.into_iter().step_by(101).collect();
            let found = Tensor::new(every, &Device::Cpu).unwrap();
            let difference = largest_difference(&found, &fixture.expected[&format!("{case}.pixels")]);
            assert!(difference <= 1e-5, "{case}: {difference}");
        }
    }
}

#[test]
fn logits_are_equal() {
    for fixture in Fixture::both() {
        let model = fixture.model();
        for case in CASES {
            let logits = model.logits(&model.forward(&fixture.packed(case)).unwrap()).unwrap();
            let rows = Tensor::new(fixture.ids(&format!("{case}.rows")), &Device::Cpu).unwrap();
            let difference = largest_difference(&logits.index_select(&rows, 0).unwrap(), &fixture.expected[&format!("{case}.logits")]);
            println!("{}/{case}: largest difference of a logit {difference:.1e}", fixture.dir.file_name().unwrap().display());
            assert!(difference <= LOGITS, "{case}: {difference}");
        }
    }
}

#[test]
fn greedy_decoding_with_a_cache_gives_the_same_tokens() {
    for fixture in Fixture::both() {
        let model = fixture.model();
        for case in CASES {
            let expected = fixture.ids(&format!("{case}.greedy"));
            let options = GenerateOptions { max_new_tokens: expected.len(), ..Default::default() };
            let found = generate(&model, &fixture.folder.processor, &fixture.messages(case), &options).unwrap();
            // The reference was told to go on after the end of the turn.
            assert_eq!(found.tokens, expected[..found.tokens.len()], "{case}");
            assert!(found.tokens.len() == expected.len() || found.finished, "{case}: stopped at {:?}", found.tokens);
        }
    }
}

#[test]
fn log_probabilities_and_gradients_are_equal() {
    for fixture in Fixture::both() {
        let model = fixture.model();
        let batch = fixture.packed("several_images");
        let hidden = model.forward(&batch).unwrap();
        let last = batch.input_ids.len() - 1;
        let logprobs = model.target_logprobs(&hidden.i(..last).unwrap().contiguous().unwrap(), &batch.input_ids[1..], 0.7).unwrap();
        let difference = largest_difference(&logprobs, &fixture.expected["several_images.logprobs"]);
        assert!(difference <= LOGITS, "{difference}");

        let gradients = logprobs.mean_all().unwrap().neg().unwrap().backward().unwrap();
        let mut compared = 0;
        for (name, var) in fixture.folder.weights.vars() {
            let Some(gradient) = gradients.get(var) else { panic!("{name} has no gradient") };
            let mut start = 0;
            for (part, rows) in file_parts(name, var.dim(0).unwrap()) {
                if let Some(expected) = fixture.expected.get(&format!("grad.{part}")) {
                    let kept = expected.dim(0).unwrap();
                    let found = gradient.i(start..start + kept).unwrap().reshape(expected.dims()).unwrap();
                    let largest: f32 = expected.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
                    let difference = largest_difference(&found, expected);
                    assert!(difference <= 1e-4 + 1e-3 * largest, "{part}: {difference} of {largest}");
                    compared += 1;
                }
                start += rows;
            }
        }
        let stored = fixture.expected.keys().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(compared, stored, "every stored gradient has a parameter");
    }
}

/// Names under which a packed parameter's row blocks stand in files (a fixture has 4 query and 2 key/value heads).
fn file_parts(name: &str, rows: usize) -> Vec<(String, usize)> {
    for (packed, parts) in
        [("qkv_proj", &[("q_proj", 2), ("k_proj", 1), ("v_proj", 1)][..]), ("gate_up_proj", &[("gate_proj", 1), ("up_proj", 1)])]
    {
        if name.contains(packed) {
            let shares: usize = parts.iter().map(|(_, share)| share).sum();
            return parts.iter().map(|(part, share)| (name.replace(packed, part), rows / shares * share)).collect();
        }
    }
    vec![(name.to_owned(), rows)]
}

#[test]
fn every_parameter_learns() {
    for fixture in Fixture::both() {
        let model = fixture.model();
        let batch = fixture.packed("several_images");
        let hidden = model.forward(&batch).unwrap();
        let targets: Vec<u32> = batch.input_ids.iter().map(|id| (id + 1) % 300).collect();
        let loss = model.target_logprobs(&hidden, &targets, 1.0).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        for (name, var) in fixture.folder.weights.vars() {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
            let size: f32 = gradient.abs().unwrap().sum_all().unwrap().to_scalar().unwrap();
            assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
        }
    }
}

#[test]
fn a_cached_append_equals_the_full_forward() {
    for fixture in Fixture::both() {
        let model = Qwen2_5Vl::frozen(&fixture.folder.config, &fixture.folder.weights).unwrap();
        let batch = fixture.packed("later_turn");
        let full = model.forward(&batch).unwrap();
        let [first, second] = [0, 1].map(|i| batch.images[i].clone());
        let end = |n: usize| {
            let ends = batch.input_ids.iter().enumerate().filter(|(_, id)| **id == fixture.folder.config.tokens.vision_end);
            ends.map(|(i, _)| i + 1).nth(n).unwrap()
        };
        // Prefill up to the first image, append the second, then one token at a time.
        let cuts = [0, end(0), end(1), end(1) + 1, end(1) + 2, batch.input_ids.len()];
        let images = [vec![first], vec![second], vec![], vec![], vec![]];
        let mut cache = KvCache::new(&fixture.folder.config);
        for (range, images) in cuts.windows(2).map(|w| w[0]..w[1]).zip(images) {
            let mut step = Packed::default();
            step.push(&batch.input_ids[range.clone()], &batch.positions[range.clone()], &images);
            let hidden = model.forward_cached(&step, &mut [&mut cache]).unwrap();
            let difference = largest_difference(&hidden, &full.i(range.end - 1..range.end).unwrap());
            assert!(difference <= 1e-4, "{range:?}: {difference}");
            assert_eq!(cache.len(), range.end);
        }
        assert!(cache.bytes() > 0);
    }
}

#[test]
fn a_row_does_not_depend_on_the_batch() {
    let [fixture, _] = Fixture::both();
    let model = Qwen2_5Vl::frozen(&fixture.folder.config, &fixture.folder.weights).unwrap();
    let numbers = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let segments = CASES.map(|case| fixture.segment(case));
    let mut batch = Packed::default();
    // The same image objects twice: their features are computed once.
    for segment in segments.iter().chain([&segments[1]]) {
        fixture.push(&mut batch, segment);
    }
    let together = model.forward(&batch).unwrap();
    let mut caches = vec![KvCache::new(&fixture.folder.config); 5];
    let cached = model.forward_cached(&batch, &mut caches.iter_mut().collect::<Vec<_>>()).unwrap();
    for (i, segment) in segments.iter().chain([&segments[1]]).enumerate() {
        let mut single = Packed::default();
        fixture.push(&mut single, segment);
        let alone = model.forward(&single).unwrap();
        let rows = batch.cu_seqlens[i] as usize..batch.cu_seqlens[i + 1] as usize;
        assert_eq!(numbers(alone.clone()), numbers(together.i(rows).unwrap()), "forward of sequence {i}");
        let mut cache = KvCache::new(&fixture.folder.config);
        let alone = model.forward_cached(&single, &mut [&mut cache]).unwrap();
        assert_eq!(numbers(alone), numbers(cached.i(i..i + 1).unwrap()), "cached forward of sequence {i}");
    }
    // Decoding: a fork of a cache goes on by itself.
    let mut fork = caches[0].clone();
    let next = batch.positions[batch.cu_seqlens[1] as usize - 1][0] + 1;
    let step = |ids: &[u32]| {
        let mut step = Packed::default();
        for id in ids {
            step.push(&[*id], &[[next; 3]], &[]);
        }
        step
    };
    let one = model.forward_cached(&step(&[40]), &mut [&mut fork]).unwrap();
    let [first, second, ..] = caches.as_mut_slice() else { unreachable!() };
    let both = model.forward_cached(&step(&[40, 41]), &mut [first, second]).unwrap();
    assert_eq!(numbers(one), numbers(both.i(0..1).unwrap()));
}

#[test]
fn resizing_is_equal_to_the_reference() {
    let dir = fixtures().join("images");
    let expected: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dir.join("expected.json")).unwrap()).unwrap();
    let processor = ImageProcessor::from_json(&expected["bounds"], "expected.json").unwrap();
    let mut failed = false;
    for (stem, grid) in expected["grids"].as_object().unwrap() {
        let found = processor.process(&read_image(&dir.join(format!("{stem}.png"))).unwrap()).unwrap();
        let grid: Vec<u32> = grid.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
        assert_eq!(found.grid_thw.to_vec(), grid, "{stem}");
        for backend in ["pil", "torchvision"] {
            // The expected picture needs no resizing, so processing it only normalises and cuts it.
            let unchanged = ImageProcessor { do_resize: false, ..processor.clone() };
            let reference = unchanged.process(&read_image(&dir.join(format!("{stem}.{backend}.png"))).unwrap()).unwrap();
            let step = processor.image_std.map(|std| 1.0 / 255.0 / std);
            let mut differing = 0;
            let mut largest: f32 = 0.0;
            for (i, (a, b)) in found.pixel_values.iter().zip(&reference.pixel_values).enumerate() {
                let levels = (a - b).abs() / step[i % 1176 / 392];
                largest = largest.max(levels);
                differing += usize::from(levels > 0.5);
            }
            let share = differing as f32 / found.pixel_values.len() as f32;
            println!("{stem} against {backend}: {:.2} % of pixels differ, by at most {largest:.0} of 255", share * 100.0);
            // torchvision's resizing is what the reference uses by default; Pillow rounds halves otherwise.
            failed |= if backend == "torchvision" { differing > 0 } else { largest > 1.01 };
        }
    }
    assert!(!failed, "a pixel differs from torchvision's, or by more than one level from Pillow's");
    for (size, grid) in expected["sizes"].as_object().unwrap() {
        let (height, width) = size.split_once('x').unwrap();
        let (height, width) = processor.smart_resize(height.parse().unwrap(), width.parse().unwrap()).unwrap();
        assert_eq!(serde_json::json!([1, height / 14, width / 14]), *grid, "{size}");
    }
}

#[test]
fn a_continuation_is_what_the_whole_conversation_has_there() {
    for fixture in Fixture::both() {
        let processor = &fixture.folder.processor;
        let messages = fixture.messages("later_turn");
        let whole = processor.encode_chat(&messages, true).unwrap();
        let turn_end = processor.eos_ids()[0];
        let (before, after) = (&messages[..4], &messages[4..]);
        let opening = processor.encode_chat(before, false).unwrap();
        let end = opening.tokens.iter().rposition(|&id| id == turn_end).unwrap() + 1;
        let continuation = processor.encode_continuation(after).unwrap();
        if fixture.dir.ends_with("tied") {
            assert_eq!([&opening.tokens[..end], &continuation.tokens].concat(), whole.tokens);
            assert_eq!(continuation.images.len(), 1);
            assert!(Arc::ptr_eq(&continuation.images[0], &whole.images[1]));
        } else {
            // This template numbers pictures, which no continuation can know; without pictures it is the same.
            let text = [Message::text("user", "And the river?")];
            let whole = processor.encode_chat(&[before, &text[..]].concat(), true).unwrap();
            assert_eq!([&opening.tokens[..end], &processor.encode_continuation(&text).unwrap().tokens].concat(), whole.tokens);
        }
    }
}
