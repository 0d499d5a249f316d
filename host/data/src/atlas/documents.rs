//! The world as a corpus, and as text.

use mmhost_corpus::{Document, encode_png};

use super::world::{Entity, Relation, World};

/// Title of an entity's flag page, as image search shows it.
pub(super) fn flag_title(name: &str) -> String {
    format!("Flag of {name}")
}

/// What a policy asks the text search.
pub(super) fn query(relation: Relation, name: &str) -> String {
    format!("{} of {name}", relation.word())
}

/// What a fact page says.
pub(super) fn passage(relation: Relation, name: &str, value: &str) -> String {
    format!("The {} of {name} is {value}.", relation.word())
}

fn fact_page(entity: &Entity, relation: Relation) -> Document {
    let word = relation.word();
    Document {
        id: format!("{}/{word}", entity.code),
        title: format!("{}{} of {}", word[..1].to_uppercase(), &word[1..], entity.name),
        text: passage(relation, &entity.name, entity.fact(relation)),
        url: format!("atlas:{}/{word}", entity.code),
        image: None,
    }
}

impl World {
    /// The corpus: for every entity a page with its flag, titled `Flag of Chad`, and one page per relation, titled `Capital of Chad` with the text
    /// `The capital of Chad is N'Djamena.`
    pub fn documents(&self) -> Vec<Document> {
        let flags = self.entities.iter().zip(&self.flags).map(|(entity, flag)| Document {
            id: format!("{}/flag", entity.code),
            title: flag_title(&entity.name),
            text: String::new(),
            url: format!("atlas:{}/flag", entity.code),
            image: Some(encode_png(flag).into()),
        });
        let facts = self.entities.iter().flat_map(|entity| Relation::ALL.map(|relation| fact_page(entity, relation)));
        flags.chain(facts).collect()
    }

    /// Every text of the corpus, for training a tokenizer: passages, titles, and the values by themselves, three times.
    pub fn texts(&self) -> Vec<String> {
        self.entities
            .iter()
            .flat_map(|entity| {
                Relation::ALL.into_iter().flat_map(|relation| {
                    let value = format!(" {}", entity.fact(relation));
                    [passage(relation, &entity.name, entity.fact(relation)), flag_title(&entity.name), value.clone(), value.clone(), value]
                })
            })
            .collect()
    }
}
