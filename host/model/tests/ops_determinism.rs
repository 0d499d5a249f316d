//! A row's bits do not depend on what else is in the batch, nor on threads; cached attention equals the uncached.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use mmhost_model::ops::{self, AdamWStep, Heads, LayerKv, Rope};

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

fn tensor(shape: (usize, usize), seed: u32) -> Tensor {
    Tensor::from_vec(values(shape.0 * shape.1, seed), shape, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn rope(positions: &[usize], dim: usize) -> Rope {
    let table =
        |f: fn(f32) -> f32| positions.iter().flat_map(|&p| (0..dim / 2).map(move |i| f(p as f32 / (1.0 + i as f32)))).collect::<Vec<_>>();
    Rope::new(table(f32::cos), table(f32::sin)).unwrap()
}

#[track_caller]
fn assert_rows_alone(what: &str, x: &Tensor, f: impl Fn(&Tensor, usize) -> Tensor) {
    let all = f(x, 0);
    let rows = x.dim(0).unwrap();
    for (start, len) in [(0, 1), (1, 1), (rows - 1, 1), (1, 2), (3, 7), (0, rows / 2), (5, rows - 5)] {
        let part = f(&x.narrow(0, start, len).unwrap().contiguous().unwrap(), start);
        assert_eq!(flat(&part), flat(&all.narrow(0, start, len).unwrap()), "{what}: rows {start}..{}", start + len);
    }
}

#[test]
fn rows_do_not_depend_on_their_neighbours() {
    for (input, output) in [(256, 40), (704, 256), (20, 3), (1500, 100)] {
        let (x, w) = (tensor((130, input), 1), tensor((output, input), 2));
        let bias = tensor((1, output), 3).flatten_all().unwrap();
        assert_rows_alone(&format!("linear {input}→{output}"), &x, |x, _| ops::linear(x, &w, Some(&bias), None).unwrap());
    }
    let x = tensor((70, 37), 4);
    let w = tensor((1, 37), 5).flatten_all().unwrap();
    assert_rows_alone("rms_norm", &x, |x, _| ops::rms_norm(x, &w, 1e-6).unwrap());
    assert_rows_alone("gelu", &x, |x, _| ops::gelu(x).unwrap());
    assert_rows_alone("swiglu", &tensor((70, 38), 4), |x, _| ops::swiglu(x).unwrap());
    let head = tensor((1100, 37), 6);
    let targets: Vec<u32> = (0..70).map(|i| i * 13 % 1100).collect();
    let logprob = |x: &Tensor, start: usize| ops::target_logprob(x, &head, &targets[start..start + x.dim(0).unwrap()], 0.9).unwrap();
    assert_rows_alone("target_logprob", &x, logprob);
}

#[test]
fn sequences_do_not_depend_on_their_neighbours() {
    let heads = Heads { q: 4, kv: 2, dim: 32 };
    let cu: Arc<[u32]> = vec![0, 9, 10, 150].into();
    let qkv = tensor((150, heads.qkv_width()), 7);
    let positions: Vec<usize> = (0..150).collect();
    for causal in [true, false] {
        let all = ops::rope_attention(&qkv, &rope(&positions, 32), heads, &cu, causal).unwrap();
        for w in cu.windows(2) {
            let (start, len) = (w[0] as usize, (w[1] - w[0]) as usize);
            let part = qkv.narrow(0, start, len).unwrap().contiguous().unwrap();
            let alone: Arc<[u32]> = vec![0, len as u32].into();
            let got = ops::rope_attention(&part, &rope(&positions[start..start + len], 32), heads, &alone, causal).unwrap();
            assert_eq!(flat(&got), flat(&all.narrow(0, start, len).unwrap()));
        }
    }
}

#[test]
fn prefill_append_and_decode_equal_the_uncached_attention() {
    for heads in [Heads { q: 4, kv: 2, dim: 32 }, Heads { q: 3, kv: 1, dim: 18 }, Heads { q: 2, kv: 2, dim: 128 }] {
        let t = 75;
        let qkv = tensor((t, heads.qkv_width()), 8);
        let positions: Vec<usize> = (0..t).collect();
        let cu: Arc<[u32]> = vec![0, t as u32].into();
        let whole = flat(&ops::rope_attention(&qkv, &rope(&positions, heads.dim), heads, &cu, true).unwrap());
        for chunks in [&[75][..], &[40, 1, 1, 33], &[1; 75]] {
            let mut cache = LayerKv::new();
            let mut other = LayerKv::new();
            let mut got = Vec::new();
            let mut start = 0;
            for &n in chunks {
                let rows = qkv.narrow(0, start, n).unwrap();
                // The same rows once more, for a neighbour in the batch that is one token ahead of this sequence.
                let both = Tensor::cat(&[&rows.narrow(0, 0, 1).unwrap(), &rows], 0).unwrap();
                let mut at = vec![start];
                at.extend(start..start + n);
                let cu = [0, 1, 1 + n as u32];
                let out = ops::rope_attention_cached(&both, &rope(&at, heads.dim), heads, &cu, &mut [&mut other, &mut cache]).unwrap();
                got.extend(flat(&out.narrow(0, 1, n).unwrap()));
                start += n;
            }
            assert_eq!(cache.len(), t);
            assert!(cache.bytes() > 0);
            assert_eq!(got, whole, "{heads:?} in chunks {chunks:?}");
        }
    }
}

#[test]
fn the_cache_of_other_dtypes_agrees() {
    let heads = Heads { q: 4, kv: 2, dim: 16 };
    let qkv = tensor((9, heads.qkv_width()), 8);
    let run = |dtype: DType| {
        let mut caches = [LayerKv::new(), LayerKv::new()];
        let mut got = Vec::new();
        for (start, ends) in [(0, [0, 2, 5]), (5, [0, 1, 1]), (6, [0, 1, 3])] {
            let n = ends[2] as usize;
            let [a, b] = &mut caches;
            let rows = qkv.narrow(0, start, n).unwrap().to_dtype(dtype).unwrap();
            let positions: Vec<usize> = (start..start + n).collect();
            let out = ops::rope_attention_cached(&rows, &rope(&positions, 16), heads, &ends, &mut [a, b]).unwrap();
            got.extend(flat(&out.to_dtype(DType::F32).unwrap()));
        }
        assert_eq!([caches[0].len(), caches[1].len()], [4, 5]);
        assert!(caches.iter().all(|c| c.bytes() > 0));
        // A cache stays where it was filled.
        let other = if dtype == DType::F32 { DType::F64 } else { DType::F32 };
        let row = qkv.narrow(0, 0, 1).unwrap().to_dtype(other).unwrap();
        assert!(ops::rope_attention_cached(&row, &rope(&[0], 16), heads, &[0, 1], &mut [&mut caches[0]]).is_err());
        got
    };
    let (fused, plain) = (run(DType::F32), run(DType::F64));
    assert!(fused.iter().zip(&plain).all(|(f, p)| (f - p).abs() < 1e-5), "{fused:?}, but plain operations give {plain:?}");
}

#[test]
fn a_cloned_cache_is_a_fork() {
    let heads = Heads { q: 2, kv: 1, dim: 16 };
    let qkv = tensor((6, heads.qkv_width()), 9);
    let step = |cache: &mut LayerKv, row: usize| {
        let x = qkv.narrow(0, row, 1).unwrap();
        flat(&ops::rope_attention_cached(&x, &rope(&[row], 16), heads, &[0, 1], &mut [cache]).unwrap())
    };
    let mut cache = LayerKv::new();
    (0..3).for_each(|row| drop(step(&mut cache, row)));
    let mut fork = cache.clone();
    step(&mut cache, 4);
    let continued = step(&mut fork, 3);
    let mut fresh = LayerKv::new();
    (0..3).for_each(|row| drop(step(&mut fresh, row)));
    assert_eq!(continued, step(&mut fresh, 3));
    assert_eq!((cache.len(), fork.len()), (4, 4));
}

#[test]
fn threads_change_no_bit() {
    let heads = Heads { q: 4, kv: 2, dim: 32 };
    let cu: Arc<[u32]> = vec![0, 300].into();
    let positions: Vec<usize> = (0..300).collect();
    let qkv = Var::from_tensor(&tensor((300, heads.qkv_width()), 10)).unwrap();
    let w = Var::from_tensor(&tensor((500, 128), 11)).unwrap();
    let run = || {
        let y = ops::rope_attention(&qkv, &rope(&positions, 32), heads, &cu, true).unwrap();
        let y = ops::linear(&y, &w, None, None).unwrap();
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        (flat(&y), flat(gradients.get(&qkv).unwrap()), flat(gradients.get(&w).unwrap()))
    };
    assert_eq!(ops::threads(), 1);
    let one = run();
    assert_eq!(ops::with_threads(3, run), one);
    assert_eq!(ops::threads(), 1);
}

#[test]
fn adamw_follows_its_formula() {
    let n = 37;
    let param = Var::from_vec(values(n, 12), n, &Device::Cpu).unwrap();
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let mut want: Vec<(f64, f64, f64)> = flat(&param).iter().map(|&p| (f64::from(p), 0.0, 0.0)).collect();
    let (lr, beta1, beta2, eps, weight_decay, grad_scale) = (0.01, 0.9, 0.98, 1e-8, 0.1, 0.5);
    for t in 1..=5 {
        let grad = Tensor::from_vec(values(n, 20 + t as u32), n, &Device::Cpu).unwrap();
        let (bias_c1, bias_c2) = (1.0 - f32::powi(beta1, t), 1.0 - f32::powi(beta2, t));
        ops::adamw_step(&param, &grad, &mut m, &mut v, AdamWStep { lr, beta1, beta2, eps, weight_decay, bias_c1, bias_c2, grad_scale })
            .unwrap();
        for ((p, m, v), g) in want.iter_mut().zip(flat(&grad)) {
            let g = f64::from(g * grad_scale);
            *m = f64::from(beta1) * *m + (1.0 - f64::from(beta1)) * g;
            *v = f64::from(beta2) * *v + (1.0 - f64::from(beta2)) * g * g;
            let direction = (*m / f64::from(bias_c1)) / ((*v / f64::from(bias_c2)).sqrt() + f64::from(eps));
            *p -= f64::from(lr) * (f64::from(weight_decay) * *p + direction);
        }
    }
    for (got, (want, ..)) in flat(&param).iter().zip(&want) {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got}, not {want}");
    }
    let squares: f64 = flat(&param).iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    assert!((ops::sum_of_squares(&param).unwrap() - squares).abs() < 1e-5 * squares);
    assert!(
        ops::adamw_step(
            &param,
            &param,
            &mut m[1..],
            &mut v,
            AdamWStep { lr, beta1, beta2, eps, weight_decay, bias_c1: 1.0, bias_c2: 1.0, grad_scale }
        )
        .is_err()
    );
}

#[test]
fn wrong_shapes_are_refused() {
    let heads = Heads { q: 4, kv: 2, dim: 32 };
    let qkv = tensor((4, heads.qkv_width()), 1);
    let table = rope(&[0, 1, 2, 3], 32);
    let cu = |ends: &[u32]| -> Arc<[u32]> { ends.to_vec().into() };
    assert!(ops::rope_attention(&qkv, &table, heads, &cu(&[0, 4]), true).is_ok());
    assert!(ops::rope_attention(&qkv, &table, heads, &cu(&[0, 5]), true).is_err());
    assert!(ops::rope_attention(&qkv, &table, heads, &cu(&[0, 3, 2, 4]), true).is_err());
    assert!(ops::rope_attention(&qkv, &rope(&[0, 1], 32), heads, &cu(&[0, 4]), true).is_err());
    assert!(ops::rope_attention(&qkv, &table, Heads { kv: 3, ..heads }, &cu(&[0, 4]), true).is_err());
    assert!(ops::rope_attention_cached(&qkv, &table, heads, &[0, 4], &mut []).is_err());
    assert!(ops::linear(&qkv, &tensor((3, 5), 1), None, None).is_err());
    assert!(ops::swiglu(&tensor((2, 3), 1)).is_err());
}
