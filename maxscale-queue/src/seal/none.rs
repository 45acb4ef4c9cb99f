//! Without the feature `seal` nothing is sealed, and nothing that is opens.

use crate::error::QueueError;

use super::{Place, StoredArgs, Unopened};

#[derive(Clone, Debug, Default)]
pub(crate) struct Seals(());

#[derive(Clone, Debug)]
pub(crate) enum Seal {}

impl Seals {
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) const fn find(&self, _reference: Option<&str>) -> Result<Option<Seal>, QueueError> {
        Ok(None)
    }

    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn open(&self, args: StoredArgs, _place: Place<'_>) -> Result<String, Unopened> {
        match args.sealed_by {
            None => Ok(args.text),
            Some(_) => Err(Unopened::Later("this program opens nothing".into())),
        }
    }
}

impl Seal {
    pub(crate) const fn seal(
        &self,
        _plain: &str,
        _place: Place<'_>,
    ) -> Result<StoredArgs, QueueError> {
        match *self {}
    }
}
