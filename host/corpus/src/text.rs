//! BM25 over title and text.

use std::path::Path;

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter, TextAnalyzer, TokenStream,
};
use tantivy::{Index, IndexReader, IndexSettings, ReloadPolicy, TantivyDocument, Term};

use crate::corpus::Document;
use crate::error::{Error, Result};

const ANALYZER: &str = "mmhost-english";
/// A match in the title counts this much more than one in the text.
const TITLE_BOOST: f32 = 1.5;
/// Query terms beyond this many are ignored: a query is text that a policy wrote, of any length.
const MAX_QUERY_TERMS: usize = 64;
/// Heap of the index writer, bytes.
const WRITER_HEAP: usize = 32 << 20;
/// Words that say nothing about a page. A short list: names such as `Will` or `May` should stay searchable.
const STOP_WORDS: &str = "a an and are as at be by did do does for from had has have how in is it its of on or s that the there this to was were what when where which who whom whose why with";

pub(crate) struct TextIndex {
    reader: IndexReader,
    analyzer: TextAnalyzer,
    title: Field,
    text: Field,
}

fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(60))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(StopWordFilter::remove(STOP_WORDS.split(' ').map(str::to_owned)))
        .filter(Stemmer::default())
        .build()
}

fn schema() -> Schema {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs);
    let options = TextOptions::default().set_indexing_options(indexing);
    schema.add_text_field("title", options.clone());
    schema.add_text_field("text", options);
    schema.add_u64_field("number", FAST);
    schema.build()
}

/// Maps tantivy's errors, saying what was being done.
fn failed(doing: &'static str) -> impl Fn(tantivy::TantivyError) -> Error {
    move |e| Error::TextIndex { doing, problem: e.to_string() }
}

impl TextIndex {
    /// Indexes documents in memory, or in the empty folder `dir`.
    pub(crate) fn build(documents: &[std::sync::Arc<Document>], dir: Option<&Path>) -> Result<Self> {
        let builder = Index::builder().schema(schema()).settings(IndexSettings::default());
        let index = match dir {
            None => builder.create_in_ram(),
            Some(dir) => builder.create_in_dir(dir),
        }
        .map_err(failed("creating it"))?;
        index.tokenizers().register(ANALYZER, analyzer());
        let (title, text, number) = fields(&index)?;
        // One thread: document numbers, and with them the order of equal scores, repeat.
        let mut writer = index.writer_with_num_threads::<TantivyDocument>(1, WRITER_HEAP).map_err(failed("opening its writer"))?;
        for (i, document) in documents.iter().enumerate() {
            let mut entry = TantivyDocument::new();
            entry.add_text(title, &document.title);
            entry.add_text(text, &document.text);
            entry.add_u64(number, i as u64);
            writer.add_document(entry).map_err(failed("adding a document"))?;
        }
        writer.commit().map_err(failed("writing it"))?;
        writer.wait_merging_threads().map_err(failed("writing it"))?;
        Self::over(index)
    }

    /// Opens an index that [`Self::build`] wrote.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let index = Index::open_in_dir(dir).map_err(failed("opening it"))?;
        index.tokenizers().register(ANALYZER, analyzer());
        Self::over(index)
    }

    fn over(index: Index) -> Result<Self> {
        let (title, text, _) = fields(&index)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed("reading it"))?;
        Ok(Self { reader, analyzer: analyzer(), title, text })
    }

    /// Document numbers and scores, best first. The query is plain text: it has no syntax. Without a meaningful word it finds nothing.
    pub(crate) fn search(&self, query: &str, k: usize) -> Result<Vec<(u32, f32)>> {
        let mut terms: Vec<String> = Vec::new();
        let mut analyzer = self.analyzer.clone();
        let mut stream = analyzer.token_stream(query);
        while terms.len() < MAX_QUERY_TERMS && stream.advance() {
            let word = &stream.token().text;
            if !terms.contains(word) {
                terms.push(word.clone());
            }
        }
        if terms.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        let term_query = |field: Field, word: &str| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs))
        };
        let clauses = terms
            .iter()
            .flat_map(|word| {
                let title: Box<dyn Query> = Box::new(BoostQuery::new(term_query(self.title, word), TITLE_BOOST));
                [(Occur::Should, title), (Occur::Should, term_query(self.text, word))]
            })
            .collect();
        let searcher = self.reader.searcher();
        let top = searcher.search(&BooleanQuery::new(clauses), &TopDocs::with_limit(k).order_by_score()).map_err(failed("searching"))?;
        top.into_iter()
            .map(|(score, address)| {
                let numbers = searcher.segment_reader(address.segment_ord).fast_fields().u64("number").map_err(failed("reading a hit"))?;
                Ok((numbers.first(address.doc_id).unwrap_or_default() as u32, score))
            })
            .collect()
    }
}

fn fields(index: &Index) -> Result<(Field, Field, Field)> {
    let schema = index.schema();
    let field = |name| schema.get_field(name).map_err(failed("reading its schema"));
    Ok((field("title")?, field("text")?, field("number")?))
}
