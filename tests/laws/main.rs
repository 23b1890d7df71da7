//! What must hold whatever happens in whatever order: the algebra, the encodings, the book-keeping, and several nodes
//! that exchange real records of real shards.
//!
//! `LAWS_SEEDS=20000` runs the model for that many seeds instead of its usual few; `LAWS_SEED=<seed>` replays one, and
//! `LAWS_TRACE=<key>` besides shows what every node keeps of a key whenever that changes.

#![allow(unreachable_pub, reason = "modules of one test program")]

mod algebra;
mod bookkeeping;
mod codec;
mod controls;
mod cuts;
mod deadlines;
mod digests;
mod gen_ops;
mod histories;
mod membership;
mod mesh;
mod model;
mod rules;
