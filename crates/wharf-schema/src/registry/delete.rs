//! Deleting versions and subjects: first softly, then for good.
//!
//! What is deleted for good stays deleted: every form that its key has in the log gets a tombstone,
//! and the highest ids are written down, so that none is given a second time.

use bytes::Bytes;

use super::Registry;
use super::record::{self, Key};
use super::settings::{subject_not_found, usual};
use super::subject::Subject;
use super::types::{Decision, Refusal, Registered, VersionSpec};

impl Registry {
    /// Deletes a version; the answer is its number.
    ///
    /// Refused with 40401 and 40402 for what there is not, 40406 where it is soft-deleted already,
    /// 40407 where it is to go for good without having been, 42206 where a live version refers to
    /// it, and 42205 in a read-only mode.
    pub fn delete_version(
        &self,
        subject: &Subject,
        version: VersionSpec,
        permanent: bool,
    ) -> Result<Decision<i32>, Refusal> {
        subject.check()?;
        let found = self.version(subject, version, true)?;
        let number = found.version;
        if found.deleted && !permanent {
            return Err(Refusal::new(
                40406,
                format!(
                    "Subject '{subject}' Version {number} was soft deleted.Set permanent=true to \
                     delete permanently"
                ),
            ));
        }
        self.check_writable(subject)?;
        self.check_unreferenced(&found.subject, number)?;
        if permanent && !found.deleted {
            return Err(Refusal::new(
                40407,
                format!(
                    "Subject '{subject}' Version {number} was not deleted first before being \
                     permanently deleted"
                ),
            ));
        }
        let records = if permanent {
            self.hard_delete(&[&found])
        } else {
            self.soft_delete(subject, &found)
        };
        Ok(Decision {
            records,
            answer: number,
        })
    }

    fn soft_delete(&self, subject: &Subject, version: &Registered) -> Vec<(Bytes, Option<Bytes>)> {
        let key = usual(&Key::Schema(subject.shared(), version.version));
        let value = record::encode_schema(
            subject.as_str(),
            version.version,
            version.id,
            &version.content,
            true,
        );
        let mut records = vec![(key, Some(value))];
        let others = self.state.versions(subject.as_str()).into_iter().flatten();
        if others
            .filter(|other| other.version != version.version)
            .all(|other| other.deleted)
        {
            records.extend(self.forget_settings(subject));
        }
        records
    }

    /// Tombstones for the configuration and the mode of a subject that has no live version any more.
    fn forget_settings(&self, subject: &Subject) -> Vec<(Bytes, Option<Bytes>)> {
        let mut records = Vec::new();
        if self.state.modes.get(subject.as_str()).is_some() {
            records.extend(self.tombstones(&Key::Mode(subject.shared())));
        }
        if self.state.configs.get(subject.as_str()).is_some() {
            records.extend(self.tombstones(&Key::Config(subject.shared())));
        }
        records
    }

    /// Deletes a subject; the answer is the numbers of its versions.
    ///
    /// Refused with 40401 where there is none, 40404 where it is soft-deleted already, 40405 where it
    /// is to go for good without having been, 42206 where a live version refers to one of its own,
    /// and 42205 in a read-only mode.
    pub fn delete_subject(
        &self,
        subject: &Subject,
        permanent: bool,
    ) -> Result<Decision<Vec<i32>>, Refusal> {
        subject.check()?;
        let Some(versions) = self.state.versions(subject.as_str()) else {
            return Err(subject_not_found(subject));
        };
        if !permanent && versions.iter().all(|version| version.deleted) {
            return Err(Refusal::new(
                40404,
                format!(
                    "Subject '{subject}' was soft deleted.Set permanent=true to delete permanently"
                ),
            ));
        }
        self.check_writable(subject)?;
        let gone: Vec<&Registered> = versions
            .iter()
            .filter(|version| permanent || !version.deleted)
            .collect();
        for version in &gone {
            self.check_unreferenced(&version.subject, version.version)?;
            if permanent && !version.deleted {
                return Err(Refusal::new(
                    40405,
                    format!(
                        "Subject '{subject}' was not deleted first before being permanently deleted"
                    ),
                ));
            }
        }
        let answer: Vec<i32> = gone.iter().map(|version| version.version).collect();
        let records = if permanent {
            self.hard_delete(&gone)
        } else {
            let last = answer.last().copied().unwrap_or(0);
            let key = usual(&Key::DeleteSubject(subject.shared()));
            let value = record::encode_delete_subject(subject.as_str(), last);
            let mut records = vec![(key, Some(value))];
            records.extend(self.forget_settings(subject));
            records
        };
        Ok(Decision { records, answer })
    }

    /// Tombstones for versions under every form of their keys, for the marks of subjects of which
    /// nothing is left, and the highest ids where those would be lost.
    pub(super) fn hard_delete(&self, gone: &[&Registered]) -> Vec<(Bytes, Option<Bytes>)> {
        let mut records = Vec::new();
        for version in gone {
            let subject = &version.subject;
            records.extend(self.tombstones(&Key::Schema(subject.clone(), version.version)));
            let left = self.state.versions(subject).into_iter().flatten();
            let is_last = left
                .filter(|other| {
                    !gone
                        .iter()
                        .any(|gone| gone.version == other.version && gone.subject == other.subject)
                })
                .count()
                == 0;
            let is_end = gone
                .iter()
                .rev()
                .find(|other| other.subject == *subject)
                .map(|v| v.version)
                == Some(version.version);
            if is_last && is_end && self.state.delete_markers.get(subject).is_some() {
                records.extend(self.tombstones(&Key::DeleteSubject(subject.clone())));
            }
        }
        let marks = self.state.marks_without(gone);
        if !marks.highest_ids.is_empty() {
            records.push((usual(&Key::Noop), Some(record::encode_marks(&marks))));
        }
        records
    }
}
