//! Reading: why trials failed, counted by class of error.

use std::collections::BTreeMap;

use rusqlite::params;

use super::bundle::{FAILED, Texts};
use super::error::StoreError;
use super::reader::Reader;
use super::rows::RunRow;
use super::schema::{first_key, last_key};

impl Reader {
    /// How many trials of a run failed with each class of error. Memory stays flat: only failed trials are unpacked, one
    /// at a time.
    pub fn error_counts(&self, run: &RunRow) -> Result<BTreeMap<String, u64>, StoreError> {
        let or = self.or();
        let mut find = self
            .conn
            .prepare_cached("SELECT texts FROM trial WHERE id BETWEEN ?1 AND ?2 AND outcome = ?3")
            .map_err(&or)?;
        let mut rows = find.query(params![first_key(run.number), last_key(run.number), FAILED]).map_err(&or)?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let what = "the texts of a trial";
        while let Some(row) = rows.next().map_err(&or)? {
            let blob = row.get_ref(0).and_then(|texts| Ok(texts.as_blob()?)).map_err(&or)?;
            self.unpack(what, blob, |json| {
                let texts: Texts<'_> = serde_json::from_slice(json).map_err(|e| StoreError::damaged(what, e))?;
                let class = texts.error_type.as_deref().unwrap_or("_OTHER");
                match counts.get_mut(class) {
                    Some(count) => *count += 1,
                    None => {
                        counts.insert(class.to_owned(), 1);
                    }
                }
                Ok(())
            })?;
        }
        Ok(counts)
    }
}
