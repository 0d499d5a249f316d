//! Nearest images by cosine of their features.

use std::collections::HashMap;

use instant_distance::{Builder, Hnsw, Point, PointId, Search};
use serde::{Deserialize, Serialize};

use crate::features::{DIMENSIONS, Feature, VIEWS};

/// Up to this many vectors are compared one by one: exact, and as fast as a graph at this size.
const EXHAUSTIVE_UP_TO: usize = 8_192;
/// Seed of the graph's random layers: equal corpora have equal graphs.
const GRAPH_SEED: u64 = 0x6d6d_686f_7374;
/// Candidates kept while the graph is built and searched.
const CANDIDATES: usize = 200;

/// A feature as a point of the graph; distance is 1 − cosine.
#[derive(Clone, Serialize, Deserialize)]
struct View(Feature);

impl Point for View {
    fn distance(&self, other: &Self) -> f32 {
        1.0 - dot(&self.0, &other.0)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight partial sums let the compiler use vector registers; the order of additions is fixed, so results repeat.
    let mut sums = [0f32; 8];
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum()
}
const _: () = assert!(DIMENSIONS.is_multiple_of(8));

/// Features of the indexed images and, in a large corpus, a graph over them.
#[derive(Serialize, Deserialize)]
pub(crate) struct ImageIndex {
    /// Document numbers of the images, in the order of `features`.
    owners: Vec<u32>,
    /// `VIEWS` vectors per image; empty when there is a graph, which holds them.
    features: Vec<Feature>,
    graph: Option<Graph>,
}

#[derive(Serialize, Deserialize)]
struct Graph {
    nodes: Hnsw<View>,
    /// Image number by node number.
    images: Vec<u32>,
}

impl ImageIndex {
    /// Indexes images: each with its document number and its views.
    pub(crate) fn build(images: Vec<(u32, Vec<Feature>)>) -> Self {
        Self::build_with(images, EXHAUSTIVE_UP_TO)
    }

    fn build_with(images: Vec<(u32, Vec<Feature>)>, exhaustive_up_to: usize) -> Self {
        let owners: Vec<u32> = images.iter().map(|(owner, _)| *owner).collect();
        let features: Vec<Feature> = images.into_iter().flat_map(|(_, views)| views).collect();
        if features.len() <= exhaustive_up_to {
            return Self { owners, features, graph: None };
        }
        let points = features.into_iter().map(View).collect();
        let build = || Builder::default().seed(GRAPH_SEED).ef_construction(CANDIDATES).ef_search(CANDIDATES).build_hnsw(points);
        // One thread: insertion order, and with it the graph, would otherwise differ from run to run.
        let (nodes, ids) = match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
            Ok(pool) => pool.install(build),
            Err(_) => build(),
        };
        let mut images = vec![0; ids.len()];
        for (position, id) in ids.into_iter().enumerate() {
            images[PointId::into_inner(id) as usize] = (position / VIEWS) as u32;
        }
        Self { owners, features: Vec::new(), graph: Some(Graph { nodes, images }) }
    }

    /// The `k` images whose best view is nearest: document number and cosine, best first; equal scores by document number.
    pub(crate) fn nearest(&self, query: &Feature, k: usize) -> Vec<(u32, f32)> {
        let mut best: HashMap<u32, f32> = HashMap::new();
        let mut offer = |image: u32, score: f32| {
            let kept = best.entry(image).or_insert(score);
            *kept = kept.max(score);
        };
        match &self.graph {
            None => {
                for (i, feature) in self.features.iter().enumerate() {
                    offer((i / VIEWS) as u32, dot(feature, query));
                }
            }
            Some(graph) => {
                let mut search = Search::default();
                for item in graph.nodes.search(&View(query.clone()), &mut search) {
                    offer(graph.images[item.pid.into_inner() as usize], 1.0 - item.distance);
                }
            }
        }
        let mut hits: Vec<(u32, f32)> = best.into_iter().map(|(image, score)| (self.owners[image as usize], score)).collect();
        hits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        hits.truncate(k);
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{feature, views};
    use image::{Rgb, RgbImage};

    /// Four by four coloured cells, chosen by a small generator from `seed`; `shift` brightens them.
    fn picture(seed: u32, shift: u8) -> RgbImage {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let cells: Vec<[u8; 3]> = (0..16)
            .map(|_| {
                [0; 3].map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8 / 2 + 40 + shift
                })
            })
            .collect();
        RgbImage::from_fn(32, 32, |x, y| Rgb(cells[(y / 8 * 4 + x / 8) as usize]))
    }

    fn described(n: u32) -> Vec<(u32, Vec<Feature>)> {
        (0..n).map(|i| (i, views(&picture(i, 0)))).collect()
    }

    #[test]
    fn the_graph_finds_what_the_exhaustive_search_finds() {
        let (graph, exhaustive) = (ImageIndex::build_with(described(400), 100), ImageIndex::build_with(described(400), usize::MAX));
        assert!(graph.graph.is_some() && exhaustive.graph.is_none());
        for i in (0..400).step_by(7) {
            let query = feature(&picture(i, 20));
            let (a, b) = (graph.nearest(&query, 3), exhaustive.nearest(&query, 3));
            assert_eq!(a[0].0, i);
            assert_eq!(a[0].0, b[0].0);
            assert!((a[0].1 - b[0].1).abs() < 1e-5);
            assert_eq!(a.len(), 3);
        }
    }

    #[test]
    fn equal_images_give_equal_graphs() {
        let bytes = || postcard::to_stdvec(&ImageIndex::build_with(described(150), 10)).expect("an index has an encoding");
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn a_graph_survives_its_encoding() {
        let index = ImageIndex::build_with(described(150), 10);
        let query = feature(&picture(31, 0));
        let read: ImageIndex = postcard::from_bytes(&postcard::to_stdvec(&index).expect("encoding")).expect("decoding");
        assert_eq!(read.nearest(&query, 5), index.nearest(&query, 5));
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert!(ImageIndex::build(Vec::new()).nearest(&vec![0.0; DIMENSIONS], 3).is_empty());
    }
}
