//! The `with` blocks of a breaker that have begun and not ended.

use std::sync::Mutex;
use std::thread::{self, ThreadId};

use service_mesh::OwnedPermit;

use crate::lock::lock;

/// Of all threads and tasks, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Blocks(Mutex<Vec<Block>>);

/// A `with` block that has begun.
#[derive(Debug)]
struct Block {
    /// The address of the frame that the block is in, by which it is told apart from other threads' and other tasks' blocks.
    frame: usize,
    thread: ThreadId,
    leave: Leave,
}

/// The leave that a block has.
#[derive(Debug)]
pub(super) enum Leave {
    Number(u64),
    /// None where an overridden `can_execute` says yes and the core no.
    Permit(Option<OwnedPermit>),
}

impl Blocks {
    /// A block begins in this frame.
    pub(super) fn begin(&self, frame: usize, leave: Leave) {
        lock(&self.0).push(Block { frame, thread: thread::current().id(), leave });
    }

    /// What the block in this frame that began last has. Where a block ends in another frame than it began in, as those of an
    /// `ExitStack` do, it is the last that this thread began.
    pub(super) fn end(&self, frame: usize) -> Option<Leave> {
        let mut blocks = lock(&self.0);
        if blocks.last().is_some_and(|block| block.frame == frame) {
            return blocks.pop().map(|block| block.leave);
        }
        let thread = thread::current().id();
        let here = blocks.iter().rposition(|block| block.frame == frame);
        let place = here.or_else(|| blocks.iter().rposition(|block| block.thread == thread))?;
        Some(blocks.remove(place).leave)
    }
}
