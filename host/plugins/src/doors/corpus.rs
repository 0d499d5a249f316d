//! The door `corpus`: search in the corpora that the run grants.

use super::CallState;
use super::images::ImageHandle;
use crate::bindings::tool::mmhost::plugin::corpus::{self, CorpusError, Hit};
use crate::types::CorpusHit;
use wasmtime::component::Resource;

/// Most hits that one search may ask for.
const MAX_HITS: u32 = 64;
/// Most bytes of a query.
const MAX_QUERY_BYTES: usize = 16 << 10;

impl CallState {
    /// Checks grant and size before the corpus is troubled.
    fn admit(&self, name: &str, k: u32) -> Result<(), CorpusError> {
        if !self.info.corpora.iter().any(|granted| granted == name) {
            let line = format!("corpora = [\"{name}\"]");
            return Err(CorpusError::NotGranted(format!(
                "corpus `{name}`: add {line} to `[ask]` in the plugin.toml of {}",
                self.info.name
            )));
        }
        if k > MAX_HITS {
            return Err(CorpusError::TooMany(MAX_HITS));
        }
        Ok(())
    }

    /// Hands the hits to the guest; at most `k`, whatever the corpus returned.
    fn hits(&mut self, found: Vec<CorpusHit>, k: u32) -> wasmtime::Result<Vec<Hit>> {
        let hit = |hit: CorpusHit| {
            let image = hit.image.map(|image| self.lend(&image)).transpose()?;
            Ok(Hit { id: hit.id, title: hit.title, text: hit.text, url: hit.url, score: hit.score, image })
        };
        found.into_iter().take(k as usize).map(hit).collect()
    }
}

/// Runs a search on a thread that may block, so that the call's timer can run out meanwhile.
async fn search(job: impl FnOnce() -> Result<Vec<CorpusHit>, String> + Send + 'static) -> Result<Vec<CorpusHit>, CorpusError> {
    match tokio::task::spawn_blocking(job).await {
        Ok(found) => found.map_err(CorpusError::Failed),
        Err(_) => Err(CorpusError::Failed("the corpus failed unexpectedly".into())),
    }
}

impl corpus::Host for CallState {
    async fn search_text(&mut self, name: String, query: String, k: u32) -> wasmtime::Result<Result<Vec<Hit>, CorpusError>> {
        if let Err(refusal) = self.admit(&name, k) {
            return Ok(Err(refusal));
        }
        if query.len() > MAX_QUERY_BYTES {
            let message = format!("the query has {} bytes, at most {MAX_QUERY_BYTES} are allowed", query.len());
            return Ok(Err(CorpusError::Failed(message)));
        }
        let corpus = self.corpus.clone();
        match search(move || corpus.search_text(&name, &query, k as usize)).await {
            Ok(found) => self.hits(found, k).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn search_image(
        &mut self,
        name: String,
        query: Resource<ImageHandle>,
        k: u32,
    ) -> wasmtime::Result<Result<Vec<Hit>, CorpusError>> {
        if let Err(refusal) = self.admit(&name, k) {
            return Ok(Err(refusal));
        }
        let image = self.table.get(&query)?.0.clone();
        let corpus = self.corpus.clone();
        match search(move || corpus.search_image(&name, &image, k as usize)).await {
            Ok(found) => self.hits(found, k).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}
