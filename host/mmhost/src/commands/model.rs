//! `mmhost model`: make, look into and run models.

use candle_core::Device;
use mmhost_data::atlas::warmup::{PlainProtocol, Warmup};
use mmhost_model::{GenerateOptions, Inspection, Message, ModelFolder, Qwen2_5Vl, chat_logits, generate, inspect, read_messages};
use mmhost_plugins::CallForm;

use crate::base;
use crate::cli::ModelCommand;
use crate::config::Config;
use crate::failure::{Blame, Failure, Outcome, bad_input};
use crate::sampler::{Purpose, derive_seed};
use crate::session::atlas_world;

/// Runs the command.
pub fn run(command: ModelCommand) -> Outcome<()> {
    match command {
        ModelCommand::Init { out, seed, config } => {
            if out.exists() {
                return Err(bad_input(format!("{} exists already; name a new folder with --out", out.display())));
            }
            let config = Config::load(config.as_deref())?;
            let section =
                config.model.base.as_ref().ok_or_else(|| bad_input("the configuration has no [model.base] to take the shape from"))?;
            let world = atlas_world(&config)?;
            let texts = Warmup::tokenizer_texts(&world, &PlainProtocol);
            let calls = [CallForm::Literal("<search><img></search>".into()), CallForm::Tag("text_search".into())];
            let tokenizer = base::tokenizer(section, calls.iter(), &texts)?;
            let folder = base::init(section, tokenizer, derive_seed(seed, Purpose::Weights, 0))?;
            folder.save(&out).input(format!("cannot write the model {}", out.display()))?;
            println!("{}: {} parameters", out.display(), folder.weights.num_parameters());
        }
        ModelCommand::Inspect { model } => {
            print_inspection(&inspect(&model).input(format!("cannot inspect {}", model.display()))?);
        }
        ModelCommand::Logits { model, messages, out } => {
            let (folder, network) = load(&model)?;
            let messages = read_messages(&messages, &folder.processor).input(format!("cannot use {}", messages.display()))?;
            let logits = chat_logits(&network, &folder.processor, &messages, awaits_answer(&messages)).internal("the model failed")?;
            logits.save(&out).input(format!("cannot write {}", out.display()))?;
            println!("{}: logits of {} tokens", out.display(), logits.input_ids.len());
        }
        ModelCommand::Generate { model, messages, max_new_tokens, temperature, top_p, top_k, seed } => {
            if !(temperature >= 0.0 && temperature.is_finite() && top_p > 0.0 && top_p <= 1.0) {
                return Err(Failure::Usage(format!(
                    "--temperature is {temperature}, expected 0 or more; --top-p is {top_p}, expected a number in (0, 1]"
                )));
            }
            let (folder, network) = load(&model)?;
            let messages = read_messages(&messages, &folder.processor).input(format!("cannot use {}", messages.display()))?;
            let options = GenerateOptions { max_new_tokens, temperature, top_p, top_k, seed };
            let generated = generate(&network, &folder.processor, &messages, &options).internal("the model failed")?;
            println!("{}", generated.text);
        }
    }
    Ok(())
}

fn load(model: &std::path::Path) -> Outcome<(ModelFolder, Qwen2_5Vl)> {
    let folder = ModelFolder::load(model, &Device::Cpu).input(format!("cannot load the model {}", model.display()))?;
    let network = Qwen2_5Vl::frozen(&folder.config, &folder.weights).internal("cannot build the network")?;
    Ok((folder, network))
}

/// A conversation that does not end with the assistant's words waits for them.
fn awaits_answer(messages: &[Message]) -> bool {
    messages.last().is_none_or(|message| message.role != "assistant")
}

fn print_inspection(i: &Inspection) {
    let line = |name: &str, value: String| println!("{name:<12}{value}");
    let (text, vision) = (&i.config.text, &i.config.vision);
    line(
        "parameters",
        format!(
            "{} (decoder {}, embeddings {}, vision {})",
            i.parameters(),
            i.decoder_parameters,
            i.embedding_parameters,
            i.vision_parameters
        ),
    );
    let heads = format!("{} query and {} key-value heads", text.num_heads, text.num_kv_heads);
    line(
        "decoder",
        format!(
            "width {}, {} layers, {heads}, SwiGLU {}, vocabulary {}",
            text.hidden_size, text.num_layers, text.intermediate_size, text.vocab_size
        ),
    );
    line(
        "",
        format!(
            "M-RoPE sections {:?}, θ {}, {} head",
            text.mrope_section,
            text.rope_theta,
            if i.config.tie_word_embeddings { "tied" } else { "untied" }
        ),
    );
    line(
        "vision",
        format!(
            "width {}, {} blocks, {} heads, full attention in {:?}",
            vision.hidden_size, vision.depth, vision.num_heads, vision.fullatt_block_indexes
        ),
    );
    line(
        "",
        format!("patches of {} px, {2}×{2} merged, windows of {1} px", vision.patch_size, vision.window_size, vision.spatial_merge_size),
    );
    for (n, (dtype, (tensors, bytes))) in i.dtypes.iter().enumerate() {
        line(if n == 0 { "tensors" } else { "" }, format!("{tensors} in {dtype}, {bytes} bytes"));
    }
    for (n, (file, bytes)) in i.files.iter().enumerate() {
        line(if n == 0 { "files" } else { "" }, format!("{file} ({bytes} bytes)"));
    }
}
