//! Links between nodes.

pub mod mesh;
