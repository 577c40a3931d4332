//! Cuts a value into SQL tokens, as no one database does and each attack hopes one does.

use super::words;

/// Of a token's text only this much matters: no word of SQL is longer.
pub(super) const TEXT_MAX: usize = 31;

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The value begins inside a string that this quote opened.
    pub(super) quote: Option<u8>,
    /// `#` begins a comment, and `--` only before white space.
    pub(super) mysql: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    Union,
    Group,
    Expression,
    Type,
    Function,
    Name,
    Number,
    Variable,
    String,
    Operator,
    Logic,
    Comment,
    Collate,
    Open,
    Close,
    BraceOpen,
    BraceClose,
    Dot,
    Comma,
    Colon,
    Semicolon,
    Statement,
    Unknown,
    /// A comment within a comment, or one that MySQL executes: nobody writes that by accident.
    Evil,
    Backslash,
}

impl Kind {
    /// libinjection's letter for it.
    pub(super) const fn letter(self) -> u8 {
        match self {
            Self::Keyword => b'k',
            Self::Union => b'U',
            Self::Group => b'B',
            Self::Expression => b'E',
            Self::Type => b't',
            Self::Function => b'f',
            Self::Name => b'n',
            Self::Number => b'1',
            Self::Variable => b'v',
            Self::String => b's',
            Self::Operator => b'o',
            Self::Logic => b'&',
            Self::Comment => b'c',
            Self::Collate => b'A',
            Self::Open => b'(',
            Self::Close => b')',
            Self::BraceOpen => b'{',
            Self::BraceClose => b'}',
            Self::Dot => b'.',
            Self::Comma => b',',
            Self::Colon => b':',
            Self::Semicolon => b';',
            Self::Statement => b'T',
            Self::Unknown => b'?',
            Self::Evil => b'X',
            Self::Backslash => b'\\',
        }
    }

    /// The kind that the table of words means by `letter`.
    pub(super) const fn of_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'k' => Self::Keyword,
            b'U' => Self::Union,
            b'B' => Self::Group,
            b'E' => Self::Expression,
            b't' => Self::Type,
            b'f' => Self::Function,
            b'n' => Self::Name,
            b'1' => Self::Number,
            b'v' => Self::Variable,
            b'o' => Self::Operator,
            b'&' => Self::Logic,
            b'A' => Self::Collate,
            b'T' => Self::Statement,
            _ => return None,
        })
    }

    /// See [`words::Telling`].
    pub(super) const fn is_telling(self) -> bool {
        !matches!(self, Self::Name | Self::Number | Self::Operator | Self::Function)
    }
}

/// A token without its text: where it is a word or operator of SQL, that is in the table of words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The quotes of a string; `None` where the value begins or ends inside of it.
    pub(super) open: Option<u8>,
    pub(super) close: Option<u8>,
    /// The first byte of its text, 0 where that is empty.
    pub(super) first: u8,
    /// How long its text is, at most [`TEXT_MAX`].
    pub(super) len: u8,
    pub(super) has_underscore: bool,
    word: Option<&'static [u8]>,
}

impl Token {
    pub(super) fn new(kind: Kind, text: &[u8]) -> Self {
        Self {
            kind,
            open: None,
            close: None,
            first: text.first().copied().unwrap_or(0),
            len: text.len().min(TEXT_MAX) as u8,
            has_underscore: false,
            word: None,
        }
    }

    pub(super) fn of_word(kind: Kind, text: &[u8], word: Option<&'static [u8]>) -> Self {
        Self { word, ..Self::new(kind, text) }
    }

    fn string(text: &[u8], open: Option<u8>, close: Option<u8>) -> Self {
        Self { open, close, ..Self::new(Kind::String, text) }
    }

    /// The word of the table that it is, in upper case; empty where it is none.
    pub(super) fn word(&self) -> &'static [u8] {
        self.word.unwrap_or_default()
    }

    pub(super) fn is(&self, words: &[&str]) -> bool {
        self.word.is_some_and(|is| words.iter().any(|word| word.as_bytes() == is))
    }

    pub(super) fn is_unary(&self) -> bool {
        self.kind == Kind::Operator
            && match self.len {
                1 => matches!(self.first, b'+' | b'-' | b'!' | b'~'),
                2 | 3 => self.is(&["!!", "NOT"]),
                _ => false,
            }
    }

    pub(super) fn is_arithmetic(&self) -> bool {
        self.kind == Kind::Operator && self.len == 1 && b"*/-+%".contains(&self.first)
    }
}

/// The tokens of a value, in order.
pub(super) struct Tokens<'a> {
    value: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// There was a `#`, or a `--` without white space behind it.
    pub(super) comment_depends: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(value: &'a [u8], dialect: Dialect) -> Self {
        Self { value, at: 0, dialect, comment_depends: false }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.value.get(at).copied()
    }

    fn rest(&self, from: usize) -> &'a [u8] {
        self.value.get(from..).unwrap_or_default()
    }

    /// Takes everything up to `end` as a token of `kind`.
    fn take(&mut self, kind: Kind, end: usize) -> Token {
        let token = Token::new(kind, &self.rest(self.at)[..end - self.at]);
        self.at = end;
        token
    }

    /// The end of the run of bytes from `from` on that `belongs` takes.
    fn run(&self, from: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = self.rest(from);
        from + rest.iter().position(|&byte| !belongs(byte)).unwrap_or(rest.len())
    }

    fn locate(&self, from: usize, needle: &[u8]) -> Option<usize> {
        memchr::memmem::find(self.rest(from), needle).map(|at| from + at)
    }

    fn operator(&mut self) -> Token {
        if self.rest(self.at).starts_with(b"<=>") {
            return self.take(Kind::Operator, self.at + 3);
        }
        if let Some(pair) = self.value.get(self.at..self.at + 2)
            && let Some(entry) = words::find(pair)
        {
            let kind = if entry.kind == Some(Kind::Logic) { Kind::Logic } else { Kind::Operator };
            self.at += 2;
            return Token::of_word(kind, pair, Some(entry.word));
        }
        let colon = self.rest(self.at).len() > 1 && self.value[self.at] == b':';
        let kind = if colon { Kind::Colon } else { Kind::Operator };
        self.take(kind, self.at + 1)
    }

    fn line_comment(&mut self) -> Token {
        let end = memchr::memchr(b'\n', self.rest(self.at));
        let end = end.map_or(self.value.len(), |length| self.at + length);
        let token = self.take(Kind::Comment, end);
        self.at = (end + 1).min(self.value.len());
        token
    }

    fn dash(&mut self) -> Token {
        if self.byte(self.at + 1) != Some(b'-') {
            return self.take(Kind::Operator, self.at + 1);
        }
        if self.byte(self.at + 2).is_none_or(is_white) {
            return self.line_comment();
        }
        self.comment_depends = true;
        if self.dialect.mysql {
            self.take(Kind::Operator, self.at + 1)
        } else {
            self.line_comment()
        }
    }

    fn hash(&mut self) -> Token {
        self.comment_depends = true;
        if self.dialect.mysql {
            self.line_comment()
        } else {
            self.take(Kind::Operator, self.at + 1)
        }
    }

    fn slash(&mut self) -> Token {
        if self.byte(self.at + 1) != Some(b'*') {
            return self.take(Kind::Operator, self.at + 1);
        }
        let close = self.locate(self.at + 2, b"*/");
        // The `/` that closes may also be the one that opens another: `/*/*/`.
        let nested = close.is_some_and(|close| {
            memchr::memmem::find(&self.value[self.at + 2..close + 1], b"/*").is_some()
        });
        let executed = self.byte(self.at + 2) == Some(b'!');
        let kind = if nested || executed { Kind::Evil } else { Kind::Comment };
        self.take(kind, close.map_or(self.value.len(), |close| close + 2))
    }

    /// The string that opens `offset` bytes before its text: none for the one that opened before
    /// the value.
    fn string(&mut self, offset: usize, quote: u8) -> Token {
        let from = self.at + offset;
        let open = (offset > 0).then_some(quote);
        let mut search = from;
        while let Some(length) = memchr::memchr(quote, self.rest(search)) {
            let end = search + length;
            let escapes = self.value[from..end].iter().rev().take_while(|&&b| b == b'\\').count();
            if escapes % 2 == 1 {
                search = end + 1;
            } else if self.byte(end + 1) == Some(quote) {
                search = end + 2;
            } else {
                self.at = end + 1;
                return Token::string(&self.value[from..end], open, Some(quote));
            }
        }
        self.at = self.value.len();
        Token::string(self.rest(from), open, None)
    }

    /// A string between `from` and the next `close`, as Oracle and PostgreSQL write them.
    fn delimited(&mut self, from: usize, close: &[u8], quote: u8) -> Token {
        match self.locate(from, close) {
            Some(end) => {
                self.at = end + close.len();
                Token::string(&self.value[from..end], Some(quote), Some(quote))
            }
            None => {
                self.at = self.value.len();
                Token::string(self.rest(from), Some(quote), None)
            }
        }
    }

    /// `e'…'`: a string with escapes; `n'…'`: one in the national character set.
    fn prefixed_string(&mut self) -> Token {
        if self.byte(self.at + 1) == Some(b'\'') && self.at + 2 < self.value.len() {
            self.string(2, b'\'')
        } else {
            self.word()
        }
    }

    /// `u&'…'`
    fn unicode_string(&mut self) -> Token {
        if !self.rest(self.at + 1).starts_with(b"&'") {
            return self.word();
        }
        self.at += 2;
        let token = self.string(1, b'\'');
        Token { open: Some(b'u'), close: token.close.map(|_| b'u'), ..token }
    }

    /// Oracle's `q'[…]'`, at `offset` where an `n` stands before it.
    fn quoting_string(&mut self, offset: usize) -> Token {
        let at = self.at + offset;
        let [b'q' | b'Q', b'\'', delimiter @ 33..=127, ..] = self.rest(at) else {
            return self.word();
        };
        let close = match delimiter {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b'<' => b'>',
            other => *other,
        };
        self.delimited(at + 3, &[close, b'\''], b'q')
    }

    /// `b'01'` and `x'ff'`, which are numbers.
    fn digit_string(&mut self, belongs: impl Fn(u8) -> bool) -> Token {
        if self.byte(self.at + 1) == Some(b'\'') {
            let end = self.run(self.at + 2, belongs);
            if self.byte(end) == Some(b'\'') && self.at + 2 < self.value.len() {
                return self.take(Kind::Number, end + 1);
            }
        }
        self.word()
    }

    fn bracketed(&mut self) -> Token {
        let close = memchr::memchr(b']', self.rest(self.at));
        let end = close.map_or(self.value.len(), |length| self.at + length + 1);
        let has_underscore = has_underscore(&self.value[self.at..end]);
        Token { has_underscore, ..self.take(Kind::Name, end) }
    }

    fn word(&mut self) -> Token {
        let end = self.run(self.at, |byte| !ends_word(byte));
        let text = &self.value[self.at..end];
        // `SELECT.1` and `select`a`` are two tokens: a word that is followed by one.
        for (length, &byte) in text.iter().take(TEXT_MAX).enumerate() {
            if (byte == b'.' || byte == b'`')
                && let Some(entry) = words::find(&text[..length])
                && let Some(kind) = entry.kind
                && kind != Kind::Name
            {
                self.at += length;
                return Token::of_word(kind, &text[..length], Some(entry.word));
            }
        }
        self.at = end;
        let entry = words::find(text);
        let kind = entry.and_then(|entry| entry.kind).unwrap_or(Kind::Name);
        Token {
            has_underscore: has_underscore(text),
            ..Token::of_word(kind, text, entry.map(|entry| entry.word))
        }
    }

    fn tick(&mut self) -> Token {
        let from = self.at + 1;
        let token = self.string(1, b'`');
        let text = &self.value[from..from + usize::from(token.len)];
        let entry = words::find(text);
        let function = entry.is_some_and(|entry| entry.kind == Some(Kind::Function));
        Token {
            kind: if function { Kind::Function } else { Kind::Name },
            has_underscore: text.contains(&b'_'),
            word: entry.map(|entry| entry.word),
            ..token
        }
    }

    fn variable(&mut self) -> Token {
        let name = self.at + if self.byte(self.at + 1) == Some(b'@') { 2 } else { 1 };
        match self.byte(name) {
            Some(b'`') => {
                self.at = name;
                Token { kind: Kind::Variable, ..self.tick() }
            }
            Some(quote @ (b'\'' | b'"')) => {
                self.at = name;
                Token { kind: Kind::Variable, ..self.string(1, quote) }
            }
            _ => self.take(Kind::Variable, self.run(name, |byte| !ends_variable(byte))),
        }
    }

    /// `$1,000.00`, PostgreSQL's `$$…$$` and `$tag$…$tag$`, or a `$`.
    fn dollar(&mut self) -> Token {
        let amount = self.run(self.at + 1, |byte| matches!(byte, b'0'..=b'9' | b'.' | b','));
        if amount == self.at + 2 && self.byte(self.at + 1) == Some(b'.') {
            return self.word();
        }
        if amount > self.at + 1 {
            return self.take(Kind::Number, amount);
        }
        if self.byte(self.at + 1) == Some(b'$') {
            return self.delimited(self.at + 2, b"$$", b'$');
        }
        let tag = self.run(self.at + 1, |byte| byte.is_ascii_alphabetic());
        if tag > self.at + 1 && self.byte(tag) == Some(b'$') {
            let close = &self.value[self.at..=tag];
            return self.delimited(tag + 1, close, b'$');
        }
        self.take(Kind::Name, self.at + 1)
    }

    fn number(&mut self) -> Token {
        if self.byte(self.at) == Some(b'0') {
            let digits = match self.byte(self.at + 1) {
                Some(b'x' | b'X') => Some(self.run(self.at + 2, |byte| byte.is_ascii_hexdigit())),
                Some(b'b' | b'B') => {
                    Some(self.run(self.at + 2, |byte| matches!(byte, b'0' | b'1')))
                }
                _ => None,
            };
            if let Some(end) = digits {
                let kind = if end > self.at + 2 { Kind::Number } else { Kind::Name };
                return self.take(kind, end);
            }
        }
        let digit = |byte: u8| byte.is_ascii_digit();
        let mut end = self.run(self.at, digit);
        if self.byte(end) == Some(b'.') {
            end = self.run(end + 1, digit);
            if end == self.at + 1 {
                return self.take(Kind::Dot, end);
            }
        }
        let mut kind = Kind::Number;
        if let Some(b'e' | b'E') = self.byte(end) {
            end += 1;
            if let Some(b'+' | b'-') = self.byte(end) {
                end += 1;
            }
            let exponent = self.run(end, digit);
            if exponent == end {
                kind = Kind::Name;
            }
            end = exponent;
        }
        // Oracle's `1.5d` and `1f`; `1fUNION` is a number and a word there.
        if let Some(b'd' | b'D' | b'f' | b'F') = self.byte(end) {
            let next = self.byte(end + 1);
            if next.is_none_or(|byte| is_white(byte) || matches!(byte, b';' | b'u' | b'U')) {
                end += 1;
            }
        }
        self.take(kind, end)
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        if self.at == 0
            && let Some(quote) = self.dialect.quote
            && !self.value.is_empty()
        {
            return Some(self.string(0, quote));
        }
        self.at = self.run(self.at, |byte| matches!(byte, 0..=32 | 127 | 0xA0));
        let byte = self.byte(self.at)?;
        Some(match byte {
            b'\'' | b'"' => self.string(1, byte),
            b'#' => self.hash(),
            b'$' => self.dollar(),
            b'%' | b'^' | b'+' | b'~' => self.take(Kind::Operator, self.at + 1),
            b'!' | b'&' | b'*' | b':' | b'<' | b'=' | b'>' | b'|' => self.operator(),
            b'(' => self.take(Kind::Open, self.at + 1),
            b')' => self.take(Kind::Close, self.at + 1),
            b',' => self.take(Kind::Comma, self.at + 1),
            b';' => self.take(Kind::Semicolon, self.at + 1),
            b'{' => self.take(Kind::BraceOpen, self.at + 1),
            b'}' => self.take(Kind::BraceClose, self.at + 1),
            b'-' => self.dash(),
            b'.' | b'0'..=b'9' => self.number(),
            b'/' => self.slash(),
            b'?' | b']' => self.take(Kind::Unknown, self.at + 1),
            b'@' => self.variable(),
            b'[' => self.bracketed(),
            // MySQL's other way to write NULL.
            b'\\' if self.byte(self.at + 1) == Some(b'N') => self.take(Kind::Number, self.at + 2),
            b'\\' => self.take(Kind::Backslash, self.at + 1),
            b'`' => self.tick(),
            b'b' | b'B' => self.digit_string(|byte| matches!(byte, b'0' | b'1')),
            b'x' | b'X' => self.digit_string(|byte| byte.is_ascii_hexdigit()),
            b'e' | b'E' => self.prefixed_string(),
            b'n' | b'N' => match self.byte(self.at + 1) {
                Some(b'\'') => self.prefixed_string(),
                _ => self.quoting_string(1),
            },
            b'q' | b'Q' => self.quoting_string(0),
            b'u' | b'U' => self.unicode_string(),
            _ => self.word(),
        })
    }
}

/// Oracle takes a NUL for white space, and Latin-1's no-break space is one.
fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xA0 | 0)
}

fn ends_word(byte: u8) -> bool {
    /// Looked up for each byte of each word.
    const ENDS: [bool; 256] = {
        let ends = b" \t\n\x0B\x0C\r\xA0\0[]{}<>:\\?=@!#~+-*/&|^%(),';\"";
        let mut table = [false; 256];
        let mut at = 0;
        while at < ends.len() {
            table[ends[at] as usize] = true;
            at += 1;
        }
        table
    };
    ENDS[usize::from(byte)]
}

fn ends_variable(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r') || b"<>:\\?=@!#~+-*/&|^%(),;'`\"".contains(&byte)
}

/// Of as much of `text` as a token keeps.
fn has_underscore(text: &[u8]) -> bool {
    text.iter().take(TEXT_MAX).any(|&byte| byte == b'_')
}
