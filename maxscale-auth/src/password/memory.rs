use argon2::Block;

use crate::error::AuthError;

/// The memory of one thread's hashes, which the next hash finds still mapped.
///
/// With two threads a hash in fresh memory takes a third longer: both map and
/// unmap 19 MiB in one address space, 40 times a second.
#[derive(Debug)]
pub(super) struct Memory {
    blocks: Vec<Block>,
    /// How many blocks stay for the next hash.
    keep: usize,
}

// === impl Memory ===

impl Memory {
    pub(super) const fn new(keep: usize) -> Self {
        Self {
            blocks: Vec::new(),
            keep,
        }
    }

    /// So many blocks. What the hash before left in them does not matter: argon2
    /// writes each block before it reads it.
    pub(super) fn blocks(&mut self, count: usize) -> Result<&mut [Block], AuthError> {
        let more = count.saturating_sub(self.blocks.len());
        let reserved = self.blocks.try_reserve_exact(more);
        reserved.map_err(|error| AuthError::Hash(error.into()))?;
        if more > 0 {
            self.blocks.resize(count, Block::default());
        }
        Ok(&mut self.blocks[..count])
    }

    /// Gives back what a stored hash of a higher cost took beyond that of a new one.
    pub(super) fn settle(&mut self) {
        if self.blocks.len() > self.keep {
            self.release();
        }
    }

    /// Gives everything back.
    pub(super) fn release(&mut self) {
        self.blocks = Vec::new();
    }

    pub(super) const fn is_held(&self) -> bool {
        self.blocks.capacity() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_an_unusual_hash_is_given_back() {
        let mut memory = Memory::new(8);
        assert_eq!(memory.blocks(8).unwrap().len(), 8);
        memory.settle();
        assert!(memory.is_held());
        assert_eq!(memory.blocks(9).unwrap().len(), 9);
        assert_eq!(memory.blocks(3).unwrap().len(), 3);
        memory.settle();
        assert!(!memory.is_held());
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let mut memory = Memory::new(8);
        let refused = memory.blocks(usize::MAX / 2_048);
        assert!(matches!(refused, Err(AuthError::Hash(_))));
    }
}
