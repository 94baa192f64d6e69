//! What becomes of the fields of a message on its way through.

pub(crate) mod forwarded;
pub(crate) mod hop_by_hop;
pub(crate) mod present;
pub(crate) mod via;
