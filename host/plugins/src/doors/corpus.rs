//! The door `corpus`: search in the corpora that the run grants.

use super::CallState;
use super::images::ImageHandle;
use crate::bindings::imports::corpus::{self, CorpusError, Hit};
use crate::tape::{Ask, Door, Tape};
use crate::types::CorpusHit;
use sha2::{Digest, Sha256};
use wasmtime::component::Resource;

/// Most hits that one search may ask for.
const MAX_HITS: u32 = 64;
/// Corpora answer every plugin alike, so that the recording need not tell them apart.
const CORPORA: &str = "corpora";
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

/// Runs a search on a thread that may block, so that the call's timer can run out meanwhile; or finds it on record.
async fn search(
    tape: Option<&Tape>,
    ask: Option<Ask<'_>>,
    job: impl FnOnce() -> Result<Vec<CorpusHit>, String> + Send + 'static,
) -> Result<Vec<CorpusHit>, CorpusError> {
    let live = async {
        let found = tokio::task::spawn_blocking(job).await;
        found.unwrap_or_else(|_| Err("the corpus failed unexpectedly".into()))
    };
    match tape.zip(ask) {
        Some((tape, ask)) => tape.answer(ask, Result::is_err, live).await.and_then(|found| found),
        None => live.await,
    }
    .map_err(CorpusError::Failed)
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
        let (corpus, tape) = (self.corpus.clone(), self.info.tape.clone());
        let ask = tape.as_ref().map(|_| {
            let asked = format!("{query:?} in {name}");
            Ask::new(Door::Corpus, CORPORA, asked, &[b"text", name.as_bytes(), query.as_bytes(), &k.to_le_bytes()]).by(&self.info.name)
        });
        match search(tape.as_deref(), ask, move || corpus.search_text(&name, &query, k as usize)).await {
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
        let (corpus, tape) = (self.corpus.clone(), self.info.tape.clone());
        let ask = tape.as_ref().map(|_| {
            let digest = Sha256::digest(&image.bytes);
            let asked = format!("the image sha256:{} in {name}", hex::encode(digest));
            Ask::new(Door::Corpus, CORPORA, asked, &[b"image", name.as_bytes(), &digest, &k.to_le_bytes()]).by(&self.info.name)
        });
        match search(tape.as_deref(), ask, move || corpus.search_image(&name, &image, k as usize)).await {
            Ok(found) => self.hits(found, k).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}
