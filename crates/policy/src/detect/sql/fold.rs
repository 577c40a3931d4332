//! Folds tokens together until five are left that say what a value does.

use super::Fingerprint;
use super::token::{Dialect, Kind, Token, Tokens};
use super::words;

pub(super) const TOKENS_MAX: usize = 5;

/// What a value folds to.
pub(super) struct Folded {
    tokens: [Token; ROOM],
    len: usize,
    /// How many tokens were read, folded ones among them.
    pub(super) read: usize,
    /// Another dialect may see comments where this one saw operators, or the other way round.
    pub(super) comment_depends: bool,
}

/// One token is read ahead to tell what the fifth is.
const ROOM: usize = TOKENS_MAX + 1;

impl Folded {
    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens[..self.len]
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut letters = Fingerprint::new();
        for token in self.tokens() {
            letters.push(char::from(token.kind.letter()));
        }
        letters
    }
}

/// Reads `value` in `dialect` until five tokens stand. Each step reads a token, drops one or
/// moves to the right, so the time is linear in the value's length.
pub(super) fn fold(value: &[u8], dialect: Dialect) -> Folded {
    let mut fold = Fold {
        source: Tokens::new(value, dialect),
        tokens: [Token::new(Kind::Unknown, b""); ROOM],
        end: 0,
        left: 0,
        read: 0,
        comment: None,
        more: true,
    };
    let len = fold.run();
    let mut folded = Folded {
        tokens: fold.tokens,
        len,
        read: fold.read,
        comment_depends: fold.source.comment_depends,
    };
    if folded.tokens().iter().any(|token| token.kind == Kind::Evil) {
        folded.tokens[0] = Token::new(Kind::Evil, b"X");
        folded.len = 1;
    }
    folded
}

struct Fold<'a> {
    source: Tokens<'a>,
    tokens: [Token; ROOM],
    /// Where the next token goes.
    end: usize,
    /// The tokens before it stay as they are.
    left: usize,
    read: usize,
    /// The last token, where it was a comment: a comment counts only at the end.
    comment: Option<Token>,
    more: bool,
}

/// What a rule made of the tokens from `left` on.
enum Step {
    /// It changed them: start again.
    Again,
    /// It has nothing to say, or has said it.
    Next,
    /// Nothing that follows matters.
    Stop,
}

impl Fold<'_> {
    fn run(&mut self) -> usize {
        if !self.skip_front() {
            return 0;
        }
        loop {
            if self.end >= TOKENS_MAX {
                self.fold_five();
            }
            if !self.more || self.left >= TOKENS_MAX {
                self.left = self.end;
                break;
            }
            self.fill(2);
            if self.end - self.left < 2 {
                self.left = self.end;
                continue;
            }
            match self.fold_two() {
                Step::Again => continue,
                Step::Stop => return self.left + 2,
                Step::Next => {}
            }
            self.fill(3);
            if self.end - self.left < 3 {
                self.left = self.end;
                continue;
            }
            if !self.fold_three() {
                self.left += 1;
            }
        }
        self.close()
    }

    /// Comments, opening parentheses, types and signs in front of a value say nothing.
    fn skip_front(&mut self) -> bool {
        for token in self.source.by_ref() {
            self.read += 1;
            if !(matches!(token.kind, Kind::Comment | Kind::Open | Kind::Type) || token.is_unary())
            {
                self.tokens[0] = token;
                self.end = 1;
                return true;
            }
        }
        false
    }

    /// Reads tokens until `count` stand from `left` on.
    fn fill(&mut self, count: usize) {
        while self.more && self.end <= TOKENS_MAX && self.end - self.left < count {
            match self.source.next() {
                None => self.more = false,
                Some(token) => {
                    self.read += 1;
                    if token.kind == Kind::Comment {
                        self.comment = Some(token);
                    } else {
                        self.comment = None;
                        self.tokens[self.end] = token;
                        self.end += 1;
                    }
                }
            }
        }
    }

    /// Drops the `count` last tokens and starts again from the front.
    fn drop_last(&mut self, count: usize) -> Step {
        self.end -= count;
        self.left = 0;
        Step::Again
    }

    /// Whole expressions of five tokens that are one value: `1 + ( 2 )`.
    fn fold_five(&mut self) {
        use Kind::{Close, Comma, Name, Number, Open, Operator};
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|at| self.tokens[at].kind);
        let one_value = matches!(
            (a, b, c, d, e),
            (Number, Operator | Comma, Open, Number, Close)
                | (Name, Operator, Open, Name | Number, Close)
                | (Number, Close, Comma, Open, Number)
                | (Name, Close, Operator, Open, Name)
        );
        if one_value {
            if self.end > TOKENS_MAX {
                self.tokens[1] = self.tokens[TOKENS_MAX];
                self.end = 2;
            } else {
                self.end = 1;
            }
            self.left = 0;
        }
    }

    fn fold_two(&mut self) -> Step {
        let (left, right) = (self.left, self.left + 1);
        let (a, b) = (self.tokens[left], self.tokens[right]);
        match (a.kind, b.kind) {
            // `'a' 'b'` is one string, `;;` one end.
            (Kind::String, Kind::String) | (Kind::Semicolon, Kind::Semicolon) => {
                self.end -= 1;
                return Step::Again;
            }
            (Kind::Operator | Kind::Logic, kind) if b.is_unary() || kind == Kind::Type => {
                return self.drop_last(1);
            }
            (Kind::Open, _) if b.is_unary() => {
                self.end -= 1;
                self.left = left.saturating_sub(1);
                return Step::Again;
            }
            _ => {}
        }
        if let Some(merged) = merge(&a, &b) {
            self.tokens[left] = merged;
            self.end -= 1;
            self.left = left.saturating_sub(1);
            return Step::Again;
        }
        match (a.kind, b.kind) {
            // `; IF 1=1`: a statement in Transact-SQL, elsewhere a function.
            (Kind::Semicolon, Kind::Function) if b.word().starts_with(b"IF") => {
                self.tokens[right].kind = Kind::Statement;
                Step::Again
            }
            (Kind::Name | Kind::Variable, Kind::Open) if a.is(FUNCTIONS_AND_NAMES) => {
                self.tokens[left].kind = Kind::Function;
                Step::Again
            }
            (Kind::Keyword, next) if a.is(&["IN", "NOT IN"]) => {
                let kind = if next == Kind::Open { Kind::Operator } else { Kind::Name };
                self.tokens[left].kind = kind;
                Step::Again
            }
            (Kind::Operator, next) if a.is(&["LIKE", "NOT LIKE"]) => {
                if next == Kind::Open {
                    self.tokens[left].kind = Kind::Function;
                }
                Step::Next
            }
            (
                Kind::Type,
                Kind::Name
                | Kind::Number
                | Kind::Type
                | Kind::Open
                | Kind::Function
                | Kind::Variable
                | Kind::String,
            ) => {
                self.tokens[left] = b;
                self.drop_last(1)
            }
            // There are too many collations for a list; they have a `_` in them.
            (Kind::Collate, Kind::Name) => {
                if b.has_underscore {
                    self.tokens[right].kind = Kind::Type;
                    self.left = 0;
                }
                Step::Next
            }
            // Transact-SQL reads `\%1` as `0 % 1` and `\1` as `1`.
            (Kind::Backslash, _) if b.is_arithmetic() => {
                self.tokens[left].kind = Kind::Number;
                self.left = 0;
                Step::Again
            }
            (Kind::Backslash, _) => {
                self.tokens[left] = b;
                self.drop_last(1)
            }
            (Kind::Open, Kind::Open) | (Kind::Close, Kind::Close) => self.drop_last(1),
            // MySQL takes {``.``.id}, and nobody means it well.
            (Kind::BraceOpen, Kind::Name) if b.len == 0 => {
                self.tokens[right].kind = Kind::Evil;
                Step::Stop
            }
            // `{d '2026-01-01'}` of ODBC is what follows the name.
            (Kind::BraceOpen, Kind::Name) => self.drop_last(2),
            (_, Kind::BraceClose) => self.drop_last(1),
            _ => Step::Next,
        }
    }

    /// Whether the three tokens from `left` on were folded.
    fn fold_three(&mut self) -> bool {
        use Kind::{
            Comma, Dot, Expression, Function, Group, Keyword, Logic, Name, Number, Open, Operator,
            String, Type, Variable,
        };
        let (left, mid, right) = (self.left, self.left + 1, self.left + 2);
        let (a, b, c) = (self.tokens[left], self.tokens[mid], self.tokens[right]);
        match (a.kind, b.kind, c.kind) {
            (Number, Operator, Number)
            | (Logic, _, Logic)
            | (Variable, Operator, Variable | Number | Name)
            | (Name | Number, Operator, Number | Name)
            | (Name | Number | String | Variable, Comma, Number | Name | String | Variable) => {
                self.drop_last(2);
            }
            (Operator, kind, Operator) if kind != Open => {
                self.drop_last(2);
            }
            // PostgreSQL's cast.
            (Name | Number | Variable | String, Operator, Type) if b.is(&["::"]) => {
                self.drop_last(2);
            }
            (Expression | Group | Comma, _, Open) if b.is_unary() => self.drop_sign(c),
            (Keyword | Expression | Group, _, Number | Name | Variable | String | Function)
                if b.is_unary() =>
            {
                self.drop_sign(c);
            }
            (Comma, _, Number | Name | Variable | String) if b.is_unary() => {
                // `1,-1` is `1,1`: all of it is read again from the token before the comma.
                self.tokens[mid] = c;
                self.drop_last(3);
            }
            (Comma, _, Function) if b.is_unary() => self.drop_sign(c),
            // `database.table`
            (Name, Dot, Name) => {
                self.drop_last(2);
            }
            (Expression, Dot, Name) => self.drop_sign(c),
            (Function, Open, kind) if kind != Kind::Close => {
                // `USER()` takes no argument: with one it is somebody's own.
                if a.is(&["USER"]) {
                    self.tokens[left].kind = Name;
                }
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Drops the middle one of three tokens, which says nothing.
    fn drop_sign(&mut self, last: Token) {
        self.tokens[self.left + 1] = last;
        self.drop_last(1);
    }

    /// The number of tokens that stand, a comment at the end among them.
    fn close(&mut self) -> usize {
        let mut len = self.left.min(TOKENS_MAX);
        // PHP's developers end a query with a lone backtick, which MySQL takes for a comment.
        if len > 2 {
            let last = &mut self.tokens[len - 1];
            if last.kind == Kind::Name
                && last.open == Some(b'`')
                && last.close.is_none()
                && last.len == 0
            {
                last.kind = Kind::Comment;
            }
        }
        if len < TOKENS_MAX
            && let Some(comment) = self.comment
        {
            self.tokens[len] = comment;
            len += 1;
        }
        len
    }
}

/// Names of columns as often as functions.
const FUNCTIONS_AND_NAMES: &[&str] = &[
    "USER_ID",
    "USER_NAME",
    "DATABASE",
    "PASSWORD",
    "USER",
    "CURRENT_USER",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIMESTAMP",
];

/// `GROUP` and `BY` are one word of SQL.
fn merge(a: &Token, b: &Token) -> Option<Token> {
    let word = |kind| {
        matches!(
            kind,
            Kind::Keyword
                | Kind::Name
                | Kind::Operator
                | Kind::Union
                | Kind::Function
                | Kind::Expression
                | Kind::Statement
                | Kind::Type
        )
    };
    if !word(a.kind) || !(word(b.kind) || b.kind == Kind::Logic) {
        return None;
    }
    // Each part of such words is in the table, so that most are told apart here.
    let (first, second) = (a.word(), b.word());
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let entry = words::find_pair(first, second)?;
    Some(Token::of_word(entry.kind?, entry.word, Some(entry.word)))
}
