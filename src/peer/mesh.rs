//! What crosses the mesh for links and feeds.

/// To be defined with the links.
pub enum PeerMessage {}

/// What one core knows of one link or feed, for INFO.
#[derive(Clone, Debug, Default)]
pub struct PeerFigures {}
