//! The scenario files make sense, the replayer tells a wrong expectation, and a plain model of each rule agrees with the
//! numbers in the files.

mod files;
