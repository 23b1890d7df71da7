//! Who follows whom.

use tutti::base::rng::Rng;

/// The shapes a mesh of nodes may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    Mesh,
    Ring,
    Star,
    Chain,
    Random,
}

pub const TOPOLOGIES: [Topology; 5] =
    [Topology::Mesh, Topology::Ring, Topology::Star, Topology::Chain, Topology::Random];

impl Topology {
    /// Pairs of a follower and its master. What anybody writes reaches everybody.
    pub fn edges(self, n: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
        let both = |pairs: Vec<(usize, usize)>| pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        match self {
            Self::Mesh => (0..n).flat_map(|a| (0..n).filter(move |&b| a != b).map(move |b| (a, b))).collect(),
            Self::Ring => (0..n).map(|a| (a, (a + n - 1) % n)).collect(),
            Self::Star => both((1..n).map(|b| (0, b)).collect()),
            Self::Chain => both((1..n).map(|b| (b - 1, b)).collect()),
            Self::Random => {
                let mut order: Vec<usize> = (0..n).collect();
                for at in (1..n).rev() {
                    order.swap(at, rng.below(at as u64 + 1) as usize);
                }
                let mut edges: Vec<(usize, usize)> = (0..n).map(|at| (order[at], order[(at + 1) % n])).collect();
                for _ in 0..rng.below(n as u64) {
                    let edge = (rng.below(n as u64) as usize, rng.below(n as u64) as usize);
                    if edge.0 != edge.1 && !edges.contains(&edge) {
                        edges.push(edge);
                    }
                }
                edges
            }
        }
    }
}
