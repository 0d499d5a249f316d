//! Batched decode of 64 sequences: new tokens per second of the local engine.
//!
//! The decoder of `decode.py` beside this file, which runs the same shapes through transformers' `generate`, alternating with
//! this program, and prints the ratio. Alone it is `cargo bench -p mmhost-engine --bench decode`.
//!
//! Options: `--workers N` (default: every core), `--rounds N` (default 5), `--ask` (run a round for every line on stdin,
//! answering with the seconds it took).

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use candle_core::Device;
use futures::future::join_all;
use mmhost_engine::{Engine, EngineError, LocalEngine, LocalEngineOptions, Sampling, TurnRequest};
use mmhost_model::{ModelConfig, ModelShape, Qwen2_5Vl, Segment, TokenIds, Weights};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEQUENCES: usize = 64;
const PROMPT_TOKENS: usize = 64;
const NEW_TOKENS: usize = 128;
const VOCAB: usize = 2048;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)?.parse().ok());
    let tokens = TokenIds { image: 2047, video: 2046, vision_start: 2045, vision_end: 2044, bos: None, eos: vec![2043], pad: None };
    let shape =
        ModelShape { hidden_size: 256, intermediate_size: 704, num_layers: 4, num_heads: 8, num_kv_heads: 4, ..ModelShape::default() };
    let config = ModelConfig::from_shape(&shape, VOCAB, tokens)?;
    let model = Qwen2_5Vl::frozen(&config, &Weights::init(&config, 1, &Device::Cpu)?)?;
    let mut options = LocalEngineOptions::default();
    options.workers = option("--workers").unwrap_or(options.workers);
    // No token ends a turn, so that every sequence gets as many as the others.
    let engine = LocalEngine::start_with(model, &[], |_| Ok(String::new()), &options);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;

    let round = || -> Result<Duration, EngineError> {
        let begin = Instant::now();
        runtime.block_on(round(&engine))?;
        Ok(begin.elapsed())
    };
    round()?;
    if arguments.iter().any(|a| a == "--ask") {
        for line in std::io::stdin().lock().lines() {
            line?;
            println!("{}", round()?.as_secs_f64());
            std::io::stdout().flush()?;
        }
        return Ok(());
    }
    let before = engine.stats();
    let times = (0..option("--rounds").unwrap_or(5)).map(|_| round()).collect::<Result<Vec<_>, _>>()?;
    let best = times.iter().min().ok_or("--rounds must be at least 1")?;
    let rate = |time: Duration| (SEQUENCES * NEW_TOKENS) as f64 / time.as_secs_f64();
    let stats = engine.stats();
    println!(
        "{SEQUENCES} sequences of {PROMPT_TOKENS} + {NEW_TOKENS} tokens, {} workers: best {:.0} tokens/s, mean {:.0}; worker time {:.2} s in prefill, {:.2} s in decode",
        options.workers,
        rate(*best),
        rate(times.iter().sum::<Duration>() / times.len() as u32),
        (stats.prefill_time - before.prefill_time).as_secs_f64(),
        (stats.decode_time - before.decode_time).as_secs_f64(),
    );
    Ok(())
}

/// Every sequence with its own prompt, none shared.
async fn round(engine: &LocalEngine) -> Result<(), EngineError> {
    let turns = (0..SEQUENCES).map(async |sequence| {
        let tokens = (0..PROMPT_TOKENS).map(|i| ((sequence * 131 + i * 29) % 2000) as u32).collect();
        let id = engine.open(Segment { tokens, images: Vec::new() }, 1).await?[0];
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, seed: sequence as u64 };
        let request = TurnRequest { append: Segment::default(), sampling, max_new_tokens: NEW_TOKENS, stop_strings: Vec::new() };
        let turn = engine.generate(id, request).await?;
        engine.close(id);
        Ok::<usize, EngineError>(turn.tokens.len())
    });
    let mut tokens = 0;
    for turn in join_all(turns).await {
        tokens += turn?;
    }
    assert_eq!(tokens, SEQUENCES * NEW_TOKENS);
    Ok(())
}
