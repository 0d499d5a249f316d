//! Every fused operation against its composition of plain candle operations: results and the gradient of every argument.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use mmhost_model::ops::{self, Block, Heads, Linear, Rope, plain};

/// Repeatable values in [-1, 1).
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn var(shape: &[usize], seed: u32) -> Var {
    Var::from_vec(values(shape.iter().product(), seed), shape, &Device::Cpu).unwrap()
}

fn rope(tokens: usize, dim: usize) -> Rope {
    let angle = |i: usize| (i / (dim / 2)) as f32 * 0.7 / (1.0 + (i % (dim / 2)) as f32);
    let table = |f: fn(f32) -> f32| (0..tokens * dim / 2).map(|i| f(angle(i))).collect();
    Rope::new(table(f32::cos), table(f32::sin)).unwrap()
}

#[track_caller]
fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f32) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (flat(got), flat(want));
    let size = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() <= tolerance * size, "{what}[{i}]: {g}, but plain operations give {w}");
    }
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Compares results, then gradients of all `vars` under a random weighting of the result.
#[track_caller]
fn compare(what: &str, vars: &[&Var], fused: impl Fn() -> Result<Tensor>, plain: impl Fn() -> Result<Tensor>) {
    let (fused, plain) = (fused().unwrap(), plain().unwrap());
    assert_close(what, &fused, &plain, 1e-5);
    let weights = Tensor::from_vec(values(fused.elem_count(), 99), fused.shape(), &Device::Cpu).unwrap();
    let gradients = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let (got, want) = (gradients(&fused), gradients(&plain));
    for (i, var) in vars.iter().enumerate() {
        let want = want.get(var).unwrap_or_else(|| panic!("{what}: plain operations give argument {i} no gradient"));
        let got = got.get(var).unwrap_or_else(|| panic!("{what}: argument {i} receives no gradient"));
        assert_close(&format!("{what}, gradient of argument {i}"), got, want, 1e-5);
        assert!(flat(got).iter().any(|&g| g != 0.0), "{what}: gradient of argument {i} is all zeros");
    }
}

#[test]
fn linear_with_and_without_bias_and_residual() {
    for (t, input, output) in [(1, 3, 5), (7, 20, 33), (6, 64, 128), (50, 300, 70), (200, 17, 1), (97, 257, 1100)] {
        let (x, w) = (var(&[t, input], 1), var(&[output, input], 2));
        let (b, r) = (var(&[output], 3), var(&[t, output], 4));
        for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let (bias, residual) = (bias.then_some(b.as_tensor()), residual.then_some(r.as_tensor()));
            let mut vars = vec![&x, &w];
            vars.extend(bias.map(|_| &b));
            vars.extend(residual.map(|_| &r));
            let what = format!("linear {t}×{input}→{output}, bias {}, residual {}", bias.is_some(), residual.is_some());
            compare(&what, &vars, || ops::linear(&x, &w, bias, residual), || plain::linear(&x, &w, bias, residual));
        }
    }
}

#[test]
fn linear_of_strided_tensors() {
    let (x, w) = (var(&[20, 9], 1), var(&[20, 13], 2));
    let (xt, wt) = (|| x.t().unwrap(), || w.t().unwrap());
    compare("linear of transposes", &[&x, &w], || ops::linear(&xt(), &wt(), None, None), || plain::linear(&xt(), &wt(), None, None));
}

#[test]
fn gradients_of_constants_are_not_kept() {
    let (x, w) = (var(&[4, 8], 1), var(&[8, 8], 2));
    let frozen = w.as_detached_tensor();
    let y = ops::linear(&x, &frozen, None, Some(&x)).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_some());
    assert!(gradients.get(&frozen).is_none());
}

#[test]
fn rms_norm_gradients() {
    for (t, d) in [(1, 1), (3, 16), (5, 37), (40, 256)] {
        let (x, w) = (var(&[t, d], 5), var(&[d], 6));
        compare(&format!("rms_norm {t}×{d}"), &[&x, &w], || ops::rms_norm(&x, &w, 1e-6), || plain::rms_norm(&x, &w, 1e-6));
    }
}

#[test]
fn activations() {
    for (t, inner) in [(1, 1), (3, 20), (9, 64)] {
        let x = Var::from_tensor(&(var(&[t, 2 * inner], 7).as_tensor() * 8.0).unwrap()).unwrap();
        compare(&format!("swiglu {t}×{inner}"), &[&x], || ops::swiglu(&x), || plain::swiglu(&x));
        compare(&format!("gelu {t}×{inner}"), &[&x], || ops::gelu(&x), || x.gelu_erf());
    }
}

#[test]
fn attention_over_segments() {
    let lengths: [&[u32]; 4] = [&[5], &[1], &[1, 17, 0, 3, 1], &[70, 33, 64, 130]];
    for (q, kv, dim) in [(1, 1, 16), (4, 2, 32), (8, 2, 64), (6, 1, 18), (2, 2, 128)] {
        let heads = Heads { q, kv, dim };
        for lengths in lengths {
            let mut ends = vec![0];
            lengths.iter().for_each(|l| ends.push(ends[ends.len() - 1] + l));
            let cu: Arc<[u32]> = ends.into();
            let t = cu[cu.len() - 1] as usize;
            let qkv = Var::from_tensor(&(var(&[t, heads.qkv_width()], 8).as_tensor() * 3.0).unwrap()).unwrap();
            let rope = rope(t, dim);
            for causal in [true, false] {
                compare(
                    &format!("attention {heads:?} over {lengths:?}, causal {causal}"),
                    &[&qkv],
                    || ops::rope_attention(&qkv, &rope, heads, &cu, causal),
                    || plain::rope_attention(&qkv, &rope, heads, &cu, causal),
                );
            }
        }
    }
}

#[test]
fn blocks() {
    let heads = Heads { q: 4, kv: 2, dim: 16 };
    let (width, inner) = (40, 33);
    let cu: Arc<[u32]> = vec![0, 100, 100, 101, 310, 333].into();
    let (t, rope) = (333, rope(333, heads.dim));
    let (x, norm) = (var(&[t, width], 1), var(&[width], 2));
    let (qkv, out) = (var(&[heads.qkv_width(), width], 3), var(&[width, heads.out_width()], 4));
    let (gate_up, down) = (var(&[2 * inner, width], 5), var(&[width, inner], 6));
    let (bias_qkv, bias_gate_up, bias_out) = (var(&[heads.qkv_width()], 7), var(&[2 * inner], 8), var(&[width], 9));
    for biased in [false, true] {
        let bias = |b: &'static str| match b {
            _ if !biased => None,
            "qkv" => Some(bias_qkv.as_tensor()),
            "gate_up" => Some(bias_gate_up.as_tensor()),
            _ => Some(bias_out.as_tensor()),
        };
        let block = |w_in, bias_in, w_out| Block {
            norm: &norm,
            eps: 1e-6,
            input: Linear { weight: w_in, bias: bias(bias_in) },
            output: Linear { weight: w_out, bias: bias("out") },
        };
        let (attention, mlp) = (block(&qkv, "qkv", &out), block(&gate_up, "gate_up", &down));
        let mut vars = vec![&x, &norm, &qkv, &out];
        vars.extend(biased.then_some([&bias_qkv, &bias_out]).into_iter().flatten());
        for causal in [true, false] {
            let plain = || {
                let h = plain::linear(&plain::rms_norm(&x, &norm, 1e-6)?, &qkv, bias("qkv"), None)?;
                plain::linear(&plain::rope_attention(&h, &rope, heads, &cu, causal)?, &out, bias("out"), Some(&x))
            };
            let fused = || ops::attention_block(&x, &attention, &rope, heads, &cu, causal);
            compare(&format!("attention block, biased {biased}, causal {causal}"), &vars, fused, plain);
            // The same bits as the single operations, and without a gradient.
            let h = ops::linear(&ops::rms_norm(&x, &norm, 1e-6).unwrap(), &qkv, bias("qkv"), None).unwrap();
            let h = ops::rope_attention(&h, &rope, heads, &cu, causal).unwrap();
            let single = ops::linear(&h, &out, bias("out"), Some(&x)).unwrap();
            assert_eq!(flat(&fused().unwrap()), flat(&single));
            let (x, norm, qkv, out) = (x.detach(), norm.detach(), qkv.detach(), out.detach());
            let (input, output) = (Linear { weight: &qkv, bias: None }, Linear { weight: &out, bias: None });
            let frozen = Block { norm: &norm, eps: 1e-6, input, output };
            let frozen = ops::attention_block(&x, &frozen, &rope, heads, &cu, causal).unwrap();
            if !biased {
                assert_eq!(flat(&frozen), flat(&single));
            }
            assert!(!frozen.track_op());
        }
        let mut vars = vec![&x, &norm, &gate_up, &down];
        vars.extend(biased.then_some([&bias_gate_up, &bias_out]).into_iter().flatten());
        let plain = || {
            let h = plain::linear(&plain::rms_norm(&x, &norm, 1e-6)?, &gate_up, bias("gate_up"), None)?;
            plain::linear(&plain::swiglu(&h)?, &down, bias("out"), Some(&x))
        };
        compare(&format!("MLP block, biased {biased}"), &vars, || ops::mlp_block(&x, &mlp), plain);
    }
}

#[test]
fn rows() {
    let x = var(&[6, 5], 9);
    for idx in [&[0u32, 3, 3, 5, 0, 0][..], &[2]] {
        compare("take_rows", &[&x], || ops::take_rows(&x, idx), || plain::take_rows(&x, idx));
        compare("embedding", &[&x], || ops::embedding(&x, idx), || plain::take_rows(&x, idx));
    }
    let rows = var(&[2, 5], 10);
    compare("splice_rows", &[&x, &rows], || ops::splice_rows(&x, &rows, &[4, 1]), || plain::splice_rows(&x, &rows, &[4, 1]));
    assert!(ops::take_rows(&x, &[6]).is_err());
    assert!(ops::splice_rows(&x, &rows, &[1]).is_err());
    assert_eq!(ops::take_rows(&x, &[]).unwrap().dims(), [0, 5]);
}

#[test]
fn target_logprobs() {
    for (n, d, v) in [(1, 4, 7), (9, 20, 33), (400, 16, 1100)] {
        let (h, w) = (var(&[n, d], 11), Var::from_tensor(&(var(&[v, d], 12).as_tensor() * 4.0).unwrap()).unwrap());
        let targets: Vec<u32> = (0..n).map(|i| ((i * 31 + 5) % v) as u32).collect();
        for temperature in [1.0, 0.6] {
            let what = format!("target_logprob {n}×{d}→{v} at {temperature}");
            let plain = || Ok(plain::target_logprob_entropy(&h, &w, &targets, temperature)?.0);
            compare(&what, &[&h, &w], || ops::target_logprob(&h, &w, &targets, temperature), plain);
            let (logprob, entropy) = ops::target_logprob_entropy(&h, &w, &targets, temperature).unwrap();
            let (want_logprob, want_entropy) = plain::target_logprob_entropy(&h, &w, &targets, temperature).unwrap();
            assert_close(&what, &logprob, &want_logprob, 2e-6);
            assert_close(&what, &entropy, &want_entropy, 5e-6);
        }
    }
}

#[test]
fn other_dtypes_fall_back_and_keep_gradients() {
    let heads = Heads { q: 2, kv: 1, dim: 16 };
    let cu: Arc<[u32]> = vec![0, 3, 7].into();
    let (rope, targets) = (rope(7, 16), [3, 0, 5, 1, 2, 4, 6]);
    let run = |dtype: DType| {
        let var = |shape: &[usize], seed| Var::from_tensor(&var(shape, seed).to_dtype(dtype).unwrap()).unwrap();
        let vars = [
            var(&[9, 32], 1),
            var(&[32], 2),
            var(&[64, 32], 3),
            var(&[64], 4),
            var(&[32, 32], 5),
            var(&[2, 32], 6),
            var(&[30, 32], 7),
            var(&[32, 15], 8),
        ];
        let [embed, norm, qkv, bias, out, rows, gate_up, down] = &vars;
        let x = ops::embedding(embed, &[1, 4, 8, 8, 0, 2, 3]).unwrap();
        let x = ops::splice_rows(&x, rows, &[5, 1]).unwrap();
        let (input, output) = (Linear { weight: qkv, bias: Some(bias) }, Linear { weight: out, bias: None });
        let x = ops::attention_block(&x, &Block { norm, eps: 1e-5, input, output }, &rope, heads, &cu, true).unwrap();
        let (input, output) = (Linear { weight: gate_up, bias: None }, Linear { weight: down, bias: None });
        let x = ops::gelu(&ops::mlp_block(&x, &Block { norm, eps: 1e-5, input, output }).unwrap()).unwrap();
        let x = ops::take_rows(&x, &[6, 5, 4, 3, 2, 1, 0]).unwrap();
        let y = ops::target_logprob(&x, embed, &targets, 0.7).unwrap();
        let gradients = y.to_dtype(DType::F32).unwrap().sum_all().unwrap().backward().unwrap();
        let gradients: Vec<_> = vars.iter().map(|v| flat(&gradients.get(v).unwrap().to_dtype(DType::F32).unwrap())).collect();
        (flat(&y.to_dtype(DType::F32).unwrap()), gradients)
    };
    let ((fused, fused_gradients), (plain, plain_gradients)) = (run(DType::F32), run(DType::F64));
    for (got, want) in fused_gradients.iter().zip(&plain_gradients).chain([(&fused, &plain)]) {
        let size = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 3e-5 * size), "{got:?}, but plain operations give {want:?}");
    }
}

/// Central differences, independent of candle's backward.
fn finite_differences(what: &str, x: &Var, f: impl Fn(&Tensor) -> Result<Tensor>) {
    let loss = |x: &Tensor| {
        let y = f(x).unwrap();
        let weights = Tensor::from_vec(values(y.elem_count(), 77), y.shape(), &Device::Cpu).unwrap();
        (y * weights).unwrap().sum_all().unwrap()
    };
    let analytic = flat(loss(x).backward().unwrap().get(x).unwrap());
    let base = flat(x);
    for i in (0..base.len()).step_by(3) {
        let at = |delta: f32| {
            let mut moved = base.clone();
            moved[i] += delta;
            loss(&Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap()).to_scalar::<f32>().unwrap()
        };
        let numeric = (at(5e-3) - at(-5e-3)) / 1e-2;
        assert!(
            (numeric - analytic[i]).abs() < 2e-3 * analytic[i].abs().max(1.0),
            "{what}[{i}]: {} but {numeric} by differences",
            analytic[i]
        );
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let heads = Heads { q: 2, kv: 1, dim: 8 };
    let cu: Arc<[u32]> = vec![0, 3, 7].into();
    let rope = rope(7, 8);
    finite_differences("attention", &var(&[7, heads.qkv_width()], 13), |x| ops::rope_attention(x, &rope, heads, &cu, true));
    let weight = var(&[12], 14);
    finite_differences("rms_norm", &var(&[3, 12], 15), |x| ops::rms_norm(x, &weight, 1e-5));
    let head = var(&[9, 12], 16);
    finite_differences("target_logprob", &var(&[3, 12], 17), |x| ops::target_logprob(x, &head, &[0, 8, 3], 0.8));
    finite_differences("gelu", &var(&[30], 18), ops::gelu);
}

#[test]
fn backward_may_run_twice() {
    let (x, w, b, r) = (var(&[4, 8], 1), var(&[6, 8], 2), var(&[6], 3), var(&[4, 6], 4));
    let y = ops::linear(&x, &w, Some(&b), Some(&r)).unwrap().sqr().unwrap().sum_all().unwrap();
    let (first, second) = (y.backward().unwrap(), y.backward().unwrap());
    for v in [&x, &w, &b, &r] {
        assert_eq!(flat(first.get(v).unwrap()), flat(second.get(v).unwrap()));
    }
}
