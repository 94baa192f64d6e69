//! The scenario files make sense, and the replayer tells what does not hold.

mod files;
mod format;
mod replayer;
