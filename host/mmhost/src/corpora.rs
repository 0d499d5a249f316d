//! The corpora of a run, offered to plugins through the `corpus` host service.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use mmhost_corpus::{Corpus, Hit};
use mmhost_plugins::{CorpusHit, CorpusService, ImageBytes};

use crate::failure::{Blame, Outcome};

/// Corpora by the names that plugins ask for.
#[derive(Default)]
pub struct Corpora {
    by_name: BTreeMap<String, Arc<Corpus>>,
}

impl Corpora {
    /// One corpus under one name.
    pub fn single(name: &str, corpus: Corpus) -> Self {
        Self { by_name: BTreeMap::from([(name.to_string(), Arc::new(corpus))]) }
    }

    /// Opens the folders of a configuration.
    pub fn open(folders: &BTreeMap<String, PathBuf>) -> Outcome<Self> {
        let open = |(name, path): (&String, &PathBuf)| {
            let corpus = Corpus::open(path).input(format!("cannot open the corpus \"{name}\" in {}", path.display()))?;
            Ok((name.clone(), Arc::new(corpus)))
        };
        Ok(Self { by_name: folders.iter().map(open).collect::<Outcome<_>>()? })
    }

    fn get(&self, name: &str) -> Result<&Corpus, String> {
        self.by_name.get(name).map(Arc::as_ref).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            format!("there is no corpus \"{name}\"; this run has {known:?}; name it under [data.corpora]")
        })
    }
}

impl CorpusService for Corpora {
    fn search_text(&self, name: &str, query: &str, k: usize) -> Result<Vec<CorpusHit>, String> {
        let hits = self.get(name)?.search_text(query, k).map_err(|e| e.to_string())?;
        Ok(hits.into_iter().map(hit).collect())
    }

    fn search_image(&self, name: &str, image: &ImageBytes, k: usize) -> Result<Vec<CorpusHit>, String> {
        let hits = self.get(name)?.search_image(&image.bytes, k).map_err(|e| e.to_string())?;
        Ok(hits.into_iter().map(hit).collect())
    }
}

fn hit(hit: Hit) -> CorpusHit {
    CorpusHit {
        id: hit.document.id.clone(),
        title: hit.document.title.clone(),
        text: hit.document.text.clone(),
        url: hit.document.url.clone(),
        score: hit.score,
        image: hit.thumbnail.map(|bytes| ImageBytes { media_type: "image/png".into(), bytes }),
    }
}
