//! Which column of a file plays which role.

use super::error::{Problem, ProblemKind, nearest};

/// Names of columns, where the file's own names are not among the known ones. A name given here is taken to the letter,
/// and must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnMap {
    /// The statement to verify.
    pub claim: Option<String>,
    /// The evidence.
    pub context: Option<String>,
    /// The gold label.
    pub expected: Option<String>,
    /// The case's id.
    pub id: Option<String>,
    /// The case's cluster.
    pub group: Option<String>,
}

/// What a column can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Claim,
    Context,
    Expected,
    Id,
    Group,
}

impl Role {
    pub(super) const ALL: [Self; 5] = [Self::Claim, Self::Context, Self::Expected, Self::Id, Self::Group];

    /// The names a column of this role is known by, the first found wins. Case makes no difference, and blanks and
    /// hyphens count as underscores.
    const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Claim => &["claim", "query", "input", "question", "statement"],
            Self::Context => &["context", "evidence", "contexts", "documents"],
            Self::Expected => &["label", "expected", "ground_truth", "target", "answer"],
            Self::Id => &["id"],
            Self::Group => &["group"],
        }
    }

    /// The role's key in the suite file.
    const fn key(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Context => "context",
            Self::Expected => "label",
            Self::Id => "id",
            Self::Group => "group",
        }
    }

    const fn mapped(self, map: &ColumnMap) -> Option<&String> {
        match self {
            Self::Claim => map.claim.as_ref(),
            Self::Context => map.context.as_ref(),
            Self::Expected => map.expected.as_ref(),
            Self::Id => map.id.as_ref(),
            Self::Group => map.group.as_ref(),
        }
    }
}

/// Where the roles are among a row's columns, and which columns have none.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// Indices in the order of [`Role::ALL`].
    roles: [Option<usize>; 5],
    /// Indices of all other columns.
    pub(super) extras: Vec<usize>,
}

impl Layout {
    /// Finds the roles among these names. A role whose column was asked for by name and is not there stays empty.
    pub(super) fn new<N: AsRef<str>>(names: &[N], map: &ColumnMap) -> Self {
        let normal: Vec<String> =
            names.iter().map(|name| name.as_ref().trim().to_ascii_lowercase().replace([' ', '-'], "_")).collect();
        let asked_for = |name: &str| Role::ALL.iter().any(|role| role.mapped(map).is_some_and(|wanted| wanted == name));
        let roles = Role::ALL.map(|role| match role.mapped(map) {
            Some(wanted) => names.iter().position(|name| name.as_ref() == wanted),
            None => role.aliases().iter().find_map(|alias| {
                // A column that was asked for in one role is not guessed to be another.
                (0..names.len()).find(|i| normal[*i] == *alias && !asked_for(names[*i].as_ref()))
            }),
        });
        let extras = (0..names.len()).filter(|index| !roles.contains(&Some(*index))).collect();
        Self { roles, extras }
    }

    /// The index of the role's column.
    pub(super) const fn index(&self, role: Role) -> Option<usize> {
        self.roles[role as usize]
    }

    /// A role that must be there and is not: claim, context, or one that was asked for by name.
    pub(super) fn missing(&self, map: &ColumnMap) -> Option<Role> {
        Role::ALL.into_iter().find(|role| {
            let must = matches!(role, Role::Claim | Role::Context) || role.mapped(map).is_some();
            must && self.index(*role).is_none()
        })
    }
}

/// The problem of a missing column, with the columns that are there and the one that may have been meant.
pub(super) fn missing_column<N: AsRef<str>>(
    file: &str,
    line: u64,
    role: Role,
    names: &[N],
    map: &ColumnMap,
) -> Problem {
    let found = || names.iter().map(AsRef::as_ref);
    let listed = if names.is_empty() { "there are none".to_owned() } else { found().collect::<Vec<_>>().join(", ") };
    let (message, hint) = match role.mapped(map) {
        Some(wanted) => {
            let near = nearest(wanted, found()).map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
            (
                format!("there is no column `{wanted}`; the columns are: {listed}"),
                format!("{near}names are taken to the letter"),
            )
        }
        None => (
            format!("there is no column for the {}; the columns are: {listed}", role.key()),
            format!(
                "call it {}, or name it in the suite: [dataset] columns = {{ {} = \"its name\" }}",
                role.aliases().join(", "),
                role.key()
            ),
        ),
    };
    let column = role.mapped(map).cloned();
    Problem { file: file.to_owned(), line, column, kind: ProblemKind::MissingColumn, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &[&str], map: &ColumnMap) -> [Option<usize>; 5] {
        Layout::new(names, map).roles
    }

    #[test]
    fn the_first_alias_in_the_list_wins_whatever_the_order_in_the_file() {
        let map = ColumnMap::default();
        assert_eq!(roles(&["Question", "QUERY", " Context "], &map), [Some(1), Some(2), None, None, None]);
        assert_eq!(
            roles(&["statement", "documents", "Ground Truth", "id", "GROUP"], &map),
            [Some(0), Some(1), Some(2), Some(3), Some(4)]
        );
        assert_eq!(Layout::new(&["claim", "field", "context", "query"], &map).extras, [1, 3]);
    }

    #[test]
    fn a_mapped_name_is_taken_to_the_letter_and_in_no_other_role() {
        let map = ColumnMap { claim: Some("Answer".to_owned()), ..ColumnMap::default() };
        assert_eq!(roles(&["claim", "Answer", "context"], &map), [Some(1), Some(2), None, None, None]);
        let layout = Layout::new(&["claim", "answer", "context"], &map);
        assert_eq!(layout.missing(&map), Some(Role::Claim));
        let problem = missing_column("x.csv", 1, Role::Claim, &["claim", "answer", "context"], &map);
        assert!(problem.to_string().contains("claim, answer, context; did you mean `answer`?"), "{problem}");
    }

    #[test]
    fn one_column_can_have_two_mapped_roles() {
        let map = ColumnMap { id: Some("doc".to_owned()), group: Some("doc".to_owned()), ..ColumnMap::default() };
        let layout = Layout::new(&["claim", "context", "doc"], &map);
        assert_eq!(layout.roles, [Some(0), Some(1), None, Some(2), Some(2)]);
        assert!(layout.extras.is_empty());
    }
}
