//! Model folders: written, read back, refused when something is wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use mmhost_model::{
    ChatLogits, Error, GenerateOptions, ImageProcessor, Message, ModelFolder, ModelShape, Processor, Qwen2_5Vl, SaveDtype, SaveOptions,
    Tokenizer, Weights, chat_logits, generate, inspect, read_messages,
};
use tempfile::TempDir;

fn nano(seed: u64) -> ModelFolder {
    let texts = ["The flag has three stripes and a star.", "Look at the picture first, then answer in a few words."];
    let tokenizer = Tokenizer::train(texts.iter(), 300, &["<reason>", "</reason>"]).unwrap();
    let shape = ModelShape::default();
    let processor = Processor::new(tokenizer, ImageProcessor::for_model(&shape, 28 * 28, 56 * 56)).unwrap();
    ModelFolder::init(&shape, processor, seed, &Device::Cpu).unwrap()
}

fn numbers(weights: &Weights) -> BTreeMap<String, Vec<f32>> {
    let flat = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    weights.vars().iter().map(|(name, var)| (name.clone(), flat(var))).collect()
}

fn load(dir: &Path) -> Result<ModelFolder, Error> {
    ModelFolder::load(dir, &Device::Cpu)
}

fn message(result: Result<ModelFolder, Error>) -> String {
    result.err().expect("this folder must not load").to_string()
}

/// A copy of a fixture that a test may damage.
fn copy_of(name: &str) -> (TempDir, PathBuf) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().to_owned();
    (dir, path)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn the_nano_model_has_its_size_and_its_seed() {
    let model = nano(1);
    let parameters = model.weights.num_parameters();
    assert!((1_400_000..1_700_000).contains(&parameters), "{parameters}");
    assert_eq!(numbers(&model.weights), numbers(&nano(1).weights));
    assert_ne!(numbers(&model.weights), numbers(&nano(2).weights));
    assert!(model.weights.vars().values().all(|var| var.sum_all().unwrap().to_scalar::<f32>().unwrap().is_finite()));
}

#[test]
fn a_folder_reads_back_as_it_was_written() {
    let model = nano(1);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model");
    model.save(&path).unwrap();
    let again = load(&path).unwrap();
    assert_eq!(again.config, model.config);
    assert_eq!(numbers(&again.weights), numbers(&model.weights));
    assert_eq!(again.processor.eos_ids(), model.processor.eos_ids());
    assert_eq!(again.processor.image_processor(), model.processor.image_processor());
    let chat = [Message::text("user", "Which flag?")];
    assert_eq!(again.processor.encode_chat(&chat, true).unwrap(), model.processor.encode_chat(&chat, true).unwrap());
    // Written over itself, and nothing temporary stays behind.
    again.save(&path).unwrap();
    assert_eq!(numbers(&load(&path).unwrap().weights), numbers(&model.weights));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn fixtures_survive_a_round_trip() {
    for name in ["tied", "untied"] {
        let (_guard, source) = copy_of(name);
        let model = load(&source).unwrap();
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("model");
        model.save(&path).unwrap();
        let again = load(&path).unwrap();
        assert_eq!((&again.config, numbers(&again.weights)), (&model.config, numbers(&model.weights)));
        // The same weights fit into bfloat16, in which the fixtures are stored, and into small shards.
        let options = SaveOptions { dtype: SaveDtype::Bf16, max_shard_bytes: 60_000 };
        model.save_with(&path, &options).unwrap();
        assert!(path.join("model.safetensors.index.json").exists());
        assert_eq!(numbers(&load(&path).unwrap().weights), numbers(&model.weights));
        let facts = inspect(&path).unwrap();
        assert_eq!(facts.parameters(), model.weights.num_parameters());
        assert_eq!(facts.dtypes["BF16"].0, facts.tensors.len());
        assert!(facts.files.iter().filter(|(file, _)| file.ends_with(".safetensors")).count() > 3);
    }
}

#[test]
fn a_failed_save_leaves_the_old_folder() {
    let model = nano(1);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, "").unwrap();
    let error = model.save(&file.join("model")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
}

#[test]
fn a_deep_copy_does_not_follow() {
    let model = nano(1);
    let network = Qwen2_5Vl::frozen(&model.config, &model.weights).unwrap();
    let chat = [Message::text("user", "Which flag?")];
    let logits = |network: &Qwen2_5Vl| -> Vec<f32> {
        let ChatLogits { logits, .. } = chat_logits(network, &model.processor, &chat, true).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    };
    let copy = model.weights.deep_copy().unwrap();
    let reference = Qwen2_5Vl::frozen(&model.config, &copy).unwrap();
    let before = logits(&network);
    assert_eq!(before, logits(&reference));
    let norm = &model.weights.vars()["model.norm.weight"];
    norm.set(&(norm.as_detached_tensor() * 2.0).unwrap()).unwrap();
    // The network was built on these weights and sees their update; the copy does not.
    assert_ne!(before, logits(&network));
    assert_eq!(before, logits(&reference));
    copy.copy_from(&model.weights).unwrap();
    assert_eq!(logits(&network), logits(&reference));
}

#[test]
fn logits_and_answers_of_a_folder() {
    let model = nano(3);
    let network = Qwen2_5Vl::frozen(&model.config, &model.weights).unwrap();
    let chat = [Message::text("user", "Which flag?")];
    let found = chat_logits(&network, &model.processor, &chat, true).unwrap();
    assert_eq!(found.logits.dims(), [found.input_ids.len(), model.config.text.vocab_size]);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("logits.safetensors");
    found.save(&path).unwrap();
    let stored = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(stored["input_ids"].to_vec1::<i64>().unwrap().len(), found.input_ids.len());
    assert_eq!(stored["logits"].to_vec2::<f32>().unwrap(), found.logits.to_vec2::<f32>().unwrap());

    let sampled = GenerateOptions { max_new_tokens: 8, temperature: 1.0, seed: 5, ..Default::default() };
    let answer = |options: &GenerateOptions| generate(&network, &model.processor, &chat, options).unwrap();
    assert_eq!(answer(&sampled), answer(&sampled));
    assert!(answer(&sampled).tokens.len() <= 8);
    let one = GenerateOptions { top_k: 1, ..sampled.clone() };
    let greedy = GenerateOptions { temperature: 0.0, ..sampled };
    assert_eq!(answer(&one).tokens, answer(&greedy).tokens);
}

#[test]
fn damaged_weights_are_named() {
    let (_guard, dir) = copy_of("untied");
    let shard = dir.join("model-00002-of-00002.safetensors");
    let whole = fs::read(&shard).unwrap();

    fs::write(&shard, &whole[..whole.len() - 10]).unwrap();
    let error = message(load(&dir));
    let expected = format!("{} bytes, expected {} from its header", whole.len() - 10, whole.len());
    assert!(error.contains("model-00002-of-00002.safetensors") && error.contains(&expected), "{error}");

    for damage in [&b"not a tensor file"[..], &b"{}"[..], &[8, 0, 0, 0, 0, 0, 0, 0, b'{', b'"', b'a', b'"', b':', b'1', b'}', b' ']] {
        fs::write(&shard, damage).unwrap();
        assert!(message(load(&dir)).contains("damaged weight shard"), "{damage:?}");
    }

    fs::remove_file(&shard).unwrap();
    let error = message(load(&dir));
    assert!(error.contains("has no model-00002-of-00002.safetensors; hint: its index names this shard"), "{error}");

    fs::remove_file(dir.join("model.safetensors.index.json")).unwrap();
    assert!(message(load(&dir)).contains("has no model.safetensors or model.safetensors.index.json"));
}

#[test]
fn an_index_cannot_point_outside_its_folder() {
    let (_guard, dir) = copy_of("untied");
    edit(&dir.join("model.safetensors.index.json"), "model-00001-of-00002.safetensors", "../secret.safetensors");
    assert!(message(load(&dir)).contains("field `weight_map`"));
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_named() {
    for (from, to, expected) in [
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "tensor `model.layers.3.input_layernorm.weight` is missing"),
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2", "has no place in the model"),
        ("\"intermediate_size\": 48", "\"intermediate_size\": 47", "has shape [48, 32], expected [47, 32]"),
        ("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "tensor `lm_head.weight` is missing, expected shape [312, 32]"),
    ] {
        let (_guard, dir) = copy_of("tied");
        edit(&dir.join("config.json"), from, to);
        let error = message(load(&dir));
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn configuration_fields_are_checked() {
    for (from, to, expected) in [
        ("\"hidden_size\": 32", "\"hiden_size\": 32", "field `hidden_size`: found nothing"),
        (
            "\"rms_norm_eps\"",
            "\"rms_norm_esp\"",
            "field `rms_norm_esp`: found an unknown field, expected only fields of a Qwen2.5-VL configuration; hint: did you mean `rms_norm_eps`?",
        ),
        ("\"window_size\"", "\"windows_size\"", "field `vision_config.windows_size`: found an unknown field"),
        ("\"depth\": 3", "\"depth\": -1", "field `vision_config.depth`: found -1, expected a whole number"),
        ("\"depth\": 3", "\"depth\": 0", "field `vision_config.depth`: found 0, expected a whole number from 1 to 1024"),
        ("\"depth\": 3", "\"depth\": \"3\"", "field `vision_config.depth`: found \"3\""),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "expected a divisor of num_attention_heads (4)"),
        ("\"type\": \"mrope\"", "\"type\": \"yarn\"", "field `rope_scaling.type`: found \"yarn\""),
        ("\"use_sliding_window\": false", "\"use_sliding_window\": true", "field `use_sliding_window`: found true"),
        ("\"model_type\": \"qwen2_5_vl\"", "\"model_type\": \"llama\"", "field `model_type`: found \"llama\""),
        ("\"vocab_size\": 312", "\"vocab_size\": 200", "expected an id below vocab_size (200)"),
        ("{", "{,", "not valid JSON"),
    ] {
        let (_guard, dir) = copy_of("tied");
        edit(&dir.join("config.json"), from, to);
        let error = message(load(&dir));
        assert!(error.contains(expected) && error.contains("config.json"), "{to}: {error}");
    }
}

#[test]
fn missing_and_broken_text_files_are_named() {
    for (file, expected) in [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("chat_template.jinja", "has no chat_template.jinja, chat_template.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
    ] {
        let (_guard, dir) = copy_of("tied");
        fs::remove_file(dir.join(file)).unwrap();
        let error = message(load(&dir));
        assert!(error.contains(expected), "{error}");
    }
    for (file, from, to, expected) in [
        ("tokenizer.json", "\"model\"", "\"modle\"", "tokenizer.json: "),
        ("chat_template.jinja", "{%- for", "{%- four", "chat_template.jinja: "),
        ("preprocessor_config.json", "min_pixels", "min_pixles", "did you mean `min_pixels`?"),
        (
            "preprocessor_config.json",
            "\"patch_size\": 14",
            "\"patch_size\": 16",
            "field `patch_size`: found 16, expected 14, as config.json has it",
        ),
    ] {
        let (_guard, dir) = copy_of("tied");
        edit(&dir.join(file), from, to);
        let error = message(load(&dir));
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn template_and_image_settings_are_found_in_older_and_newer_places() {
    let (_guard, dir) = copy_of("tied");
    let chat = [Message::text("user", "Which flag?")];
    let expected = load(&dir).unwrap().processor.encode_chat(&chat, true).unwrap();
    let template = fs::read_to_string(dir.join("chat_template.jinja")).unwrap();
    fs::remove_file(dir.join("chat_template.jinja")).unwrap();

    let old = dir.join("chat_template.json");
    fs::write(&old, serde_json::json!({ "chat_template": template }).to_string()).unwrap();
    assert_eq!(load(&dir).unwrap().processor.encode_chat(&chat, true).unwrap(), expected);
    fs::remove_file(&old).unwrap();

    let named = serde_json::json!({ "chat_template": [{ "name": "default", "template": template }], "eos_token": { "content": "x" } });
    fs::write(dir.join("tokenizer_config.json"), named.to_string()).unwrap();
    assert_eq!(load(&dir).unwrap().processor.encode_chat(&chat, true).unwrap(), expected);

    let image = fs::read_to_string(dir.join("preprocessor_config.json")).unwrap();
    let before = load(&dir).unwrap().processor.image_processor().clone();
    fs::remove_file(dir.join("preprocessor_config.json")).unwrap();
    fs::write(dir.join("processor_config.json"), format!("{{\"image_processor\": {image}}}")).unwrap();
    assert_eq!(load(&dir).unwrap().processor.image_processor(), &before);
}

#[test]
fn message_files_are_checked() {
    let (_guard, dir) = copy_of("tied");
    let processor = load(&dir).unwrap().processor;
    let path = dir.join("messages.json");
    fs::write(dir.join("broken.png"), b"\x89PNG\r\n\x1a\nno picture").unwrap();
    for (json, expected) in [
        ("[", "not valid JSON"),
        ("[]", "found [], expected at least one message"),
        ("{\"messages\": 3}", "messages: found 3, expected a list of messages"),
        ("[{\"content\": \"x\"}]", "messages[0].role: found nothing"),
        ("[{\"role\": \"wizard\", \"content\": \"x\"}]", "messages[0].role: found \"wizard\", expected \"system\""),
        ("[{\"role\": \"user\", \"content\": 1}]", "messages[0].content: found 1, expected a string or a list of parts"),
        ("[{\"role\": \"user\", \"content\": [{\"type\": \"video\"}]}]", "messages[0].content[0].type: found \"video\""),
        ("[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]", "messages[0].content[0].path: found nothing"),
        ("[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"path\": \"none.png\"}]}]", "none.png"),
        ("[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"path\": \"broken.png\"}]}]", "broken.png: not readable"),
        ("[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"path\": \"config.json\"}]}]", "expected PNG, JPEG or WebP data"),
    ] {
        fs::write(&path, json).unwrap();
        let error = read_messages(&path, &processor).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}
