//! `rename-command`: what clients call commands.

use super::super::Worker;
use crate::base::text::eq_ignore_case;
use crate::command::spec::Spec;
use crate::command::table;
use crate::resp::parse::Argv;

impl Worker {
    /// The row of a command by the name clients give it, with its place in the table.
    #[inline]
    pub(in super::super) fn row_of(&self, argv: &Argv, buf: &[u8]) -> Option<(usize, &'static Spec)> {
        if self.config.rename_command.is_empty() { table::of_command(argv, buf) } else { self.renamed(argv, buf) }
    }

    #[cold]
    fn renamed(&self, argv: &Argv, buf: &[u8]) -> Option<(usize, &'static Spec)> {
        let given = if argv.is_empty() { return None } else { argv.get(0, buf) };
        let names = &self.config.rename_command;
        if let Some((old, _)) = names.iter().find(|(_, new)| !new.is_empty() && eq_ignore_case(given, new)) {
            return table::resolve(old.as_bytes(), (argv.len() > 1).then(|| argv.get(1, buf)));
        }
        let is_gone = names.iter().any(|(old, _)| eq_ignore_case(given, old));
        if is_gone { None } else { table::of_command(argv, buf) }
    }
}
