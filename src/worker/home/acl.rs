//! ACL, as far as there is one: the default user, and the one peers come as.

use super::super::Worker;
use super::super::session::Session;
use super::{help, subcommand, text, unknown_subcommand};
use crate::command::args::Args;
use crate::command::categories::{self, CATEGORIES};
use crate::command::error::CommandError;
use crate::command::table;
use crate::resp::write::Reply;

impl Worker {
    pub(super) fn acl(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "whoami" => reply.text(&session.user),
            "users" => {
                let users = self.users();
                reply.array(users.len());
                users.iter().for_each(|user| reply.text(user));
            }
            "list" => {
                let users = self.users();
                reply.array(users.len());
                for user in users {
                    let password = if self.has_password(&user) { "#(hidden)" } else { "nopass" };
                    reply.text(&format!("user {user} on {password} sanitize-payload ~* &* +@all"));
                }
            }
            "getuser" => {
                let user = text(args.next()?);
                if !self.users().contains(&user) {
                    reply.nil_array();
                    return Ok(());
                }
                self.describe_user(&user, reply);
            }
            "cat" => list_categories(args, reply)?,
            "help" => help(
                reply,
                "ACL",
                &[
                    "CAT [<category>]",
                    "    List all commands that belong to <category>, or all command categories.",
                    "GETUSER <username>",
                    "    Get the user's details.",
                    "LIST",
                    "    Show users details in config file format.",
                    "USERS",
                    "    List all the registered usernames.",
                    "WHOAMI",
                    "    Return the current connection username.",
                ],
            ),
            _ => return Err(unknown_subcommand("ACL", given)),
        }
        Ok(())
    }

    fn users(&self) -> Vec<String> {
        let peer = &self.config.masteruser;
        let has_peer = !peer.is_empty() && peer != "default";
        std::iter::once("default".to_owned()).chain(has_peer.then(|| peer.clone())).collect()
    }

    fn has_password(&self, user: &str) -> bool {
        user != "default" || self.config.requirepass.is_set()
    }

    fn describe_user(&self, user: &str, reply: &mut Reply<'_>) {
        let flags: &[&str] =
            if self.has_password(user) { &["on", "sanitize-payload"] } else { &["on", "nopass", "sanitize-payload"] };
        reply.map(6);
        reply.text("flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.text(flag));
        reply.text("passwords");
        reply.array(0);
        for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
            reply.text(name);
            reply.text(value);
        }
        reply.text("selectors");
        reply.array(0);
    }
}

fn list_categories(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let Some(wanted) = args.next_if_any() else {
        reply.array(CATEGORIES.len());
        CATEGORIES.iter().for_each(|category| reply.text(category));
        return Ok(());
    };
    args.finish()?;
    let wanted = text(wanted).to_ascii_lowercase();
    if !CATEGORIES.contains(&wanted.as_str()) {
        return Err(CommandError::Owned(format!("ERR Unknown category '{wanted}'")));
    }
    let names: Vec<&str> =
        table::all().filter(|spec| categories::of(spec).contains(&wanted.as_str())).map(|spec| spec.name).collect();
    reply.array(names.len());
    names.iter().for_each(|name| reply.text(name));
    Ok(())
}
