//! How a link begins: on the ordinary port, behind AUTH, as one command and one reply; then both ends speak blocks.

use crate::base::ids::Uuid;
use crate::base::text::parse_u64;
use crate::merge::origins::OriginId;
use crate::peer::runs::Refusal;
use crate::resp::value::Value;
use crate::resp::write::{Reply, encode_command};

/// The wire version both ends must speak. Additions are announced as features instead.
pub const VERSION: u64 = 2;

/// Feature: the end understands `Kind::Verify` blocks (`peer::verify`). The two lowest bits were earlier forms.
pub const VERIFY: u64 = 4;

/// Features we know, as bits.
pub const FEATURES: u64 = VERIFY;

/// The command that turns a connection into a link.
pub const COMMAND: &str = "tutti.link";

/// Why a run of a node cannot be linked with while another one is.
pub fn is_copied(node: Uuid, refusal: Refusal) -> String {
    let why = match refusal {
        Refusal::MayBeNext => {
            "it was started again a moment ago, or one of the two runs on a copy of the other's data directory"
        }
        Refusal::IsCopy => "that one is alive, so this one runs on a copy of its data directory",
    };
    format!("another run of this node is linked; {why}: {}", mend(node))
}

fn mend(node: Uuid) -> String {
    format!(
        "stop the copy of node {node}, empty its directory and start it: it will be a node of its own and get all data"
    )
}

/// What each end says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The wire version.
    pub version: u64,
    /// Feature bits.
    pub features: u64,
    /// This run of the node.
    pub origin: OriginId,
    /// The port clients connect to.
    pub port: u16,
}

impl Hello {
    /// What we say.
    pub fn ours(origin: OriginId, port: u16) -> Self {
        Self { version: VERSION, features: FEATURES, origin, port }
    }

    /// Appends the reader's opening: AUTH if there is a password, then the command.
    pub fn put_command(&self, out: &mut Vec<u8>, user: &str, password: &[u8]) {
        if !password.is_empty() {
            match user {
                "" => encode_command(out, &[&b"AUTH"[..], password]),
                user => encode_command(out, &[b"AUTH", user.as_bytes(), password]),
            }
        }
        let texts = self.texts();
        let args: Vec<&[u8]> =
            std::iter::once(COMMAND.as_bytes()).chain(texts.iter().map(|text| text.as_bytes())).collect();
        encode_command(out, &args);
    }

    /// Writes the writer's answer.
    pub fn put_reply(&self, reply: &mut Reply<'_>) {
        let texts = self.texts();
        reply.array(texts.len());
        texts.iter().for_each(|text| reply.text(text));
    }

    /// Reads the arguments of the command.
    pub fn from_args<'a>(args: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let args: Vec<&[u8]> = args.collect();
        let [version, features, uuid, incarnation, port, ..] = args.as_slice() else { return None };
        let node = Uuid::parse(std::str::from_utf8(uuid).ok()?)?;
        Some(Self {
            version: parse_u64(version)?,
            features: parse_u64(features)?,
            origin: OriginId { node, incarnation: parse_u64(incarnation)? },
            port: u16::try_from(parse_u64(port)?).ok()?,
        })
    }

    /// Reads the answer.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        let Value::Array(items) = reply else { return None };
        let texts = items.iter().map(|item| match item {
            Value::Bulk(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        Self::from_args(texts.collect::<Option<Vec<_>>>()?.into_iter())
    }

    /// Why this other end cannot be linked with, if so.
    pub fn objection(&self, ours: OriginId) -> Option<String> {
        if self.origin == ours {
            return Some("it is this node itself: remove the replicaof line that names our own address".into());
        }
        if self.origin.node == ours.node {
            return Some(format!(
                "it runs on a copy of this node's data directory, or the other way about: {}",
                mend(ours.node)
            ));
        }
        if self.version != VERSION {
            return Some(format!(
                "it speaks link version {}, this node {VERSION}: run versions that share one",
                self.version
            ));
        }
        None
    }

    fn texts(&self) -> [String; 5] {
        [
            self.version.to_string(),
            self.features.to_string(),
            self.origin.node.to_string(),
            self.origin.incarnation.to_string(),
            self.port.to_string(),
        ]
    }
}
