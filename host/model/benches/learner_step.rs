//! One learner step of a nano decoder: forward, backward, AdamW. `learner_step.py` is the same in PyTorch; `learner_step.sh`
//! runs both in turns and compares.
//!
//! Vocabulary 2,048, width 256, 4 layers, 8 query and 4 key/value heads of 32, SwiGLU 704, tied embeddings, 32 sequences of 192
//! tokens, f32. Two workers of one thread each take half of the batch; their gradients are added.
//!
//! Prints one line per step: seconds and loss. `--steps N` sets how many (default 8, after 2 for warming up), `--wait` makes each
//! step wait for a line on standard input, so that another program can take turns.

use std::io::{BufRead, stdin};
use std::sync::Arc;
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use mmhost_model::ops::{self, AdamWStep, Block, Heads, Linear, Rope};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VOCAB: usize = 2048;
const WIDTH: usize = 256;
const LAYERS: usize = 4;
const HEADS: Heads = Heads { q: 8, kv: 4, dim: 32 };
const INNER: usize = 704;
const SEQUENCES: usize = 32;
const LENGTH: usize = 192;
const WORKERS: usize = 2;
const EPS: f32 = 1e-6;

struct Layer {
    attention_norm: Var,
    qkv: Var,
    out: Var,
    mlp_norm: Var,
    gate_up: Var,
    down: Var,
}

struct Model {
    embed: Var,
    layers: Vec<Layer>,
    norm: Var,
}

impl Model {
    fn new() -> Result<Self> {
        let mut seed = 1;
        let mut normal = |rows: usize, cols: usize| {
            seed += 1;
            Var::from_vec(noise(rows * cols, seed), (rows, cols), &Device::Cpu)
        };
        let ones = || Var::ones(WIDTH, candle_core::DType::F32, &Device::Cpu);
        let mut layer = || {
            Ok(Layer {
                attention_norm: ones()?,
                qkv: normal(HEADS.qkv_width(), WIDTH)?,
                out: normal(WIDTH, HEADS.out_width())?,
                mlp_norm: ones()?,
                gate_up: normal(2 * INNER, WIDTH)?,
                down: normal(WIDTH, INNER)?,
            })
        };
        let layers = (0..LAYERS).map(|_| layer()).collect::<Result<_>>()?;
        Ok(Self { embed: normal(VOCAB, WIDTH)?, layers, norm: ones()? })
    }

    fn vars(&self) -> Vec<&Var> {
        let mut vars = vec![&self.embed, &self.norm];
        for l in &self.layers {
            vars.extend([&l.attention_norm, &l.qkv, &l.out, &l.mlp_norm, &l.gate_up, &l.down]);
        }
        vars
    }

    /// Mean negative log-probability of `targets`, over as many tokens as all workers have.
    fn loss(&self, ids: &[u32], targets: &[u32], rope: &Rope, cu_seqlens: &Arc<[u32]>) -> Result<Tensor> {
        let mut x = ops::embedding(&self.embed, ids)?;
        for l in &self.layers {
            let linear = |weight| Linear { weight, bias: None };
            let attention = Block { norm: &l.attention_norm, eps: EPS, input: linear(&l.qkv), output: linear(&l.out) };
            x = ops::attention_block(&x, &attention, rope, HEADS, cu_seqlens, true)?;
            let mlp = Block { norm: &l.mlp_norm, eps: EPS, input: linear(&l.gate_up), output: linear(&l.down) };
            x = ops::mlp_block(&x, &mlp)?;
        }
        let hidden = ops::rms_norm(&x, &self.norm, EPS)?;
        let logprob = ops::target_logprob(&hidden, &self.embed, targets, 1.0)?;
        logprob.sum_all()?.affine(-1.0 / (SEQUENCES * LENGTH) as f64, 0.0)
    }
}

/// Repeatable values of standard deviation 0.02.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() * 0.02 * 3.0f32.sqrt()).collect()
}

fn main() -> Result<()> {
    // candle's element-wise operations share one pool of threads between all callers: with a worker per core they only wait for one another.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let args: Vec<String> = std::env::args().collect();
    let wait = args.iter().any(|a| a == "--wait");
    let steps = args.iter().position(|a| a == "--steps").and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(8);
    let model = Model::new()?;
    let vars = model.vars();
    let mut moments: Vec<_> = vars.iter().map(|v| (vec![0.0; v.elem_count()], vec![0.0; v.elem_count()])).collect();

    let per_worker = SEQUENCES / WORKERS;
    let cu_seqlens: Arc<[u32]> = (0..=per_worker).map(|i| (i * LENGTH) as u32).collect();
    let angle = |i: usize| (i / 16 % LENGTH) as f32 / 10_000f32.powf((i % 16) as f32 / 16.0);
    let table = |f: fn(f32) -> f32| (0..per_worker * LENGTH * 16).map(|i| f(angle(i))).collect();
    let rope = Rope::new(table(f32::cos), table(f32::sin))?;
    let ids: Vec<u32> = (0..SEQUENCES * LENGTH).map(|i| (i * 7919 % 2039) as u32).collect();
    let targets: Vec<u32> = ids.iter().map(|i| (i * 13 + 1) % VOCAB as u32).collect();

    let mut lines = stdin().lock().lines();
    for step in 1..=steps + 2 {
        if wait && lines.next().is_none() {
            break;
        }
        let start = Instant::now();
        let shards: Vec<_> = ids.chunks(per_worker * LENGTH).zip(targets.chunks(per_worker * LENGTH)).collect();
        let work = |(ids, targets): (&[u32], &[u32])| {
            let loss = model.loss(ids, targets, &rope, &cu_seqlens)?;
            Ok((loss.to_scalar::<f32>()?, loss.backward()?))
        };
        let work = &work;
        let results: Vec<Result<(f32, GradStore)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = shards.into_iter().map(|shard| scope.spawn(move || work(shard))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| candle_core::bail!("a worker panicked"))).collect()
        });
        let results = results.into_iter().collect::<Result<Vec<_>>>()?;
        let loss: f32 = results.iter().map(|(loss, _)| loss).sum();
        update(&vars, &mut moments, &results, step)?;
        let seconds = start.elapsed().as_secs_f64();
        if step > 2 {
            println!("{seconds:.6} {loss:.6}");
        } else {
            println!("warm {seconds:.6} {loss:.6}");
        }
    }
    Ok(())
}

/// Adds the workers' gradients and updates the parameters, the parameters shared among two threads.
fn update(vars: &[&Var], moments: &mut [(Vec<f32>, Vec<f32>)], results: &[(f32, GradStore)], step: i32) -> Result<()> {
    let (beta1, beta2) = (0.9, 0.999);
    let settings = AdamWStep {
        lr: 1e-4,
        beta1,
        beta2,
        eps: 1e-8,
        weight_decay: 0.01,
        bias_c1: 1.0 - f32::powi(beta1, step),
        bias_c2: 1.0 - f32::powi(beta2, step),
        grad_scale: 1.0,
    };
    let one = |var: &Var, (m, v): &mut (Vec<f32>, Vec<f32>)| {
        let mut grad: Option<Tensor> = None;
        for (_, store) in results {
            let Some(part) = store.get(var) else { candle_core::bail!("a parameter without a gradient") };
            grad = Some(match grad {
                Some(sum) => (sum + part)?,
                None => part.clone(),
            });
        }
        match grad {
            Some(grad) => ops::adamw_step(var, &grad, m, v, settings),
            None => Ok(()),
        }
    };
    let half = vars.len() / 2;
    let (first, second) = moments.split_at_mut(half);
    let one = &one;
    std::thread::scope(|scope| {
        let other = scope.spawn(move || vars[half..].iter().zip(second).try_for_each(|(var, moments)| one(var, moments)));
        vars[..half].iter().zip(first).try_for_each(|(var, moments)| one(var, moments))?;
        other.join().unwrap_or_else(|_| candle_core::bail!("the optimiser's thread panicked"))
    })
}
