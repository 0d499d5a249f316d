//! A folder written here, run by transformers. Needs Python: `MMHOST_PYTHON=python cargo test -p mmhost-model --test transformers`
//! with an interpreter that has transformers, torch and pillow; skipped without it.

use std::path::Path;
use std::process::Command;

use candle_core::Device;
use image::{Rgb, RgbImage};
use mmhost_model::{
    GenerateOptions, ImageProcessor, ModelFolder, ModelShape, Processor, Qwen2_5Vl, Tokenizer, chat_logits, generate, read_messages,
};

const SCRIPT: &str = r#"
import json, sys
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

folder, messages, expected = sys.argv[1:4]
assert AutoConfig.from_pretrained(folder).model_type == "qwen2_5_vl"
AutoTokenizer.from_pretrained(folder)
AutoImageProcessor.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
model, loading = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
assert not any(loading[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), loading
inputs = processor.apply_chat_template(
    json.load(open(messages)), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
expected = load_file(expected)
assert inputs["input_ids"][0].tolist() == expected["input_ids"].tolist(), (inputs["input_ids"][0].tolist(), expected["input_ids"].tolist())
with torch.no_grad():
    logits = model(**inputs).logits[0]
    difference = (logits - expected["logits"]).abs().max().item()
    assert difference < 1e-3, difference
    tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, logits.shape[0]:]
print(json.dumps({"difference": difference, "tokens": tokens.tolist()}))
"#;

#[test]
fn a_written_folder_runs_in_transformers() {
    let Some(python) = std::env::var_os("MMHOST_PYTHON") else {
        println!("skipped: MMHOST_PYTHON names no interpreter");
        return;
    };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transformers");
    std::fs::create_dir_all(&dir).unwrap();
    let texts = ["The flag has three stripes and a star.", "Look at the picture first, then answer in a few words."];
    let tokenizer = Tokenizer::train(texts.iter(), 300, &["<reason>", "</reason>"]).unwrap();
    // The embedding table of a real model is wider than the vocabulary; this one is as wide.
    let shape = ModelShape { initializer_range: 0.1, ..Default::default() };
    let processor = Processor::new(tokenizer, ImageProcessor::for_model(&shape, 28 * 28, 84 * 84)).unwrap();
    let folder = ModelFolder::init(&shape, processor, 7, &Device::Cpu).unwrap();
    folder.save(&dir.join("model")).unwrap();

    RgbImage::from_fn(90, 61, |x, y| Rgb([x as u8 * 2, y as u8 * 4, 128])).save(dir.join("picture.png")).unwrap();
    let picture = dir.join("picture.png");
    let messages = serde_json::json!([
        { "role": "user", "content": [{ "type": "text", "text": "Look at the picture." }] },
        { "role": "assistant", "content": [{ "type": "text", "text": "<reason>a flag</reason> 日本" }] },
        { "role": "user", "content": [{ "type": "image", "path": picture }, { "type": "text", "text": "Which flag? " }] },
    ]);
    std::fs::write(dir.join("messages.json"), messages.to_string()).unwrap();

    let folder = ModelFolder::load(&dir.join("model"), &Device::Cpu).unwrap();
    let model = Qwen2_5Vl::frozen(&folder.config, &folder.weights).unwrap();
    let messages = read_messages(&dir.join("messages.json"), &folder.processor).unwrap();
    chat_logits(&model, &folder.processor, &messages, true).unwrap().save(&dir.join("logits.safetensors")).unwrap();

    let mut command = Command::new(python);
    command.arg("-c").arg(SCRIPT).args(["model", "messages.json", "logits.safetensors"].map(|name| dir.join(name)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("largest difference of a logit: {}", found["difference"]);
    let options = GenerateOptions { max_new_tokens: 12, ..Default::default() };
    let tokens = generate(&model, &folder.processor, &messages, &options).unwrap().tokens;
    assert_eq!(serde_json::json!(tokens), found["tokens"]);
}
