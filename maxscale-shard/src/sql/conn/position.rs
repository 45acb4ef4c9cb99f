use super::Conn;
use crate::error::ShardError;
use crate::sql::Watermark;

impl Conn {
    /// How far the server has come that this leads to: no less than anything that
    /// was written or seen there before. None if it has no such thing.
    #[cfg(feature = "postgres")]
    pub(crate) async fn position(&mut self) -> Result<Option<Watermark>, ShardError> {
        use crate::engine::postgres::{POSITION, watermark};
        use crate::sql::Engine;

        if self.engine() != Engine::Postgres {
            return Ok(None);
        }
        let row = self.fetch_one(POSITION.statement()).await?;
        Ok(watermark(&row))
    }

    #[cfg(not(feature = "postgres"))]
    #[expect(clippy::unused_async, reason = "PostgreSQL is asked")]
    pub(crate) async fn position(&mut self) -> Result<Option<Watermark>, ShardError> {
        Ok(None)
    }
}
