//! A catalogue: a file in which teams write down who reads what. It is read by whoever has files; here
//! is what it says.

use serde::Deserialize;

use super::evidence::{Declared, Reader};
use crate::model::SchemaType;

/// The file, as YAML or JSON has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Everybody who reads.
    #[serde(default)]
    pub consumers: Vec<Entry>,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The group it reads as; its name, if that is not said.
    pub group: Option<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// What it reads.
    #[serde(default)]
    pub reads: Vec<Reads>,
}

/// A topic or a subject that a consumer reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// The topic.
    pub topic: Option<String>,
    /// The subject; for a topic with several.
    pub subject: Option<String>,
    /// The fields, with dots between the levels.
    pub fields: Option<Vec<String>>,
    /// The file with the schema that it reads with, from the catalogue's own directory.
    pub reader: Option<String>,
}

impl Catalogue {
    /// What it says of a subject and its topics. `source` names the file, and `load` reads the schema
    /// of a consumer.
    ///
    /// # Errors
    /// An entry that names neither topic nor subject, or a schema that cannot be read.
    pub fn declared(
        &self,
        subject: &str,
        topics: &[String],
        source: &str,
        mut load: impl FnMut(&str) -> Result<(SchemaType, String), String>,
    ) -> Result<Vec<Declared>, String> {
        let mut all = Vec::new();
        for entry in &self.consumers {
            for reads in &entry.reads {
                if reads.topic.is_none() && reads.subject.is_none() {
                    let name = &entry.name;
                    return Err(format!(
                        "{source}: {name} reads neither a topic nor a subject"
                    ));
                }
                let of_topic = reads
                    .topic
                    .as_ref()
                    .is_none_or(|topic| topics.contains(topic));
                let of_subject = reads.subject.as_deref().is_none_or(|name| name == subject);
                if !(of_topic && of_subject) {
                    continue;
                }
                let reader = match &reads.reader {
                    None => None,
                    Some(file) => {
                        let (kind, text) = load(file)?;
                        Some(Reader {
                            kind,
                            text,
                            name: file.clone(),
                        })
                    }
                };
                all.push(Declared {
                    consumer: entry.name.clone(),
                    group: Some(entry.group.clone().unwrap_or_else(|| entry.name.clone())),
                    owner: entry.owner.clone(),
                    fields: reads.fields.clone(),
                    reader,
                    source: source.to_owned(),
                });
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"consumers": [
        {"name": "inventory", "owner": "team-stock",
         "reads": [{"topic": "orders", "fields": ["number"]}, {"topic": "stock"}]},
        {"name": "billing", "group": "billing-v2",
         "reads": [{"topic": "orders", "subject": "orders-value", "reader": "order.avsc"}]}]}"#;

    fn of(subject: &str, topic: &str) -> Vec<Declared> {
        let catalogue: Catalogue = serde_json::from_str(TEXT).unwrap();
        let load = |file: &str| Ok((SchemaType::Avro, format!("the text of {file}")));
        let topics = [topic.to_owned()];
        catalogue
            .declared(subject, &topics, "c.yaml", load)
            .unwrap()
    }

    #[test]
    fn an_entry_counts_for_its_topics_and_subjects() {
        let all = of("orders-value", "orders");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].group.as_deref(), Some("inventory"));
        assert_eq!(all[0].fields, Some(vec!["number".to_owned()]));
        assert_eq!(all[1].group.as_deref(), Some("billing-v2"));
        assert_eq!(
            all[1].reader.as_ref().unwrap().text,
            "the text of order.avsc"
        );
        assert_eq!(of("orders-key", "orders").len(), 1);
        assert_eq!(of("stock-value", "stock").len(), 1);
        assert_eq!(of("else", "else"), []);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let unknown = serde_json::from_str::<Catalogue>(r#"{"consumer": []}"#);
        assert!(unknown.is_err());
        let catalogue: Catalogue =
            serde_json::from_str(r#"{"consumers": [{"name": "a", "reads": [{}]}]}"#).unwrap();
        let refused = catalogue.declared("s", &[], "c.yaml", |_| Err("no file".to_owned()));
        assert!(
            refused
                .unwrap_err()
                .contains("neither a topic nor a subject")
        );
    }
}
