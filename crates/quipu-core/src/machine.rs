//! Transition tables as data. One table gives the code that decides, the flow chart that is
//! published (EVT-4) and the list that tests walk through.

/// One arrow of a machine: in `from`, on `on`, go to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrow<S, I> {
    /// The state before.
    pub from: S,
    /// What happens.
    pub on: I,
    /// The state after.
    pub to: S,
}

/// A machine whose every possible step is written in one table.
pub trait Machine: Copy + Eq + std::fmt::Debug + 'static {
    /// What can happen to it.
    type Input: Copy + Eq + std::fmt::Debug + 'static;
    /// Its name in charts.
    const NAME: &'static str;
    /// The state it starts in.
    const START: Self;
    /// Every arrow. What is not here cannot happen.
    const TABLE: &'static [Arrow<Self, Self::Input>];
    /// Every state, in chart order.
    const STATES: &'static [Self];
    /// Every input.
    const INPUTS: &'static [Self::Input];

    /// The state that follows, or nothing where the table has no arrow: the input is then refused
    /// and the state stays.
    fn on(self, input: Self::Input) -> Option<Self> {
        Self::TABLE.iter().find(|arrow| arrow.from == self && arrow.on == input).map(|a| a.to)
    }
}

/// Defines a machine: its states, its inputs and its table.
#[macro_export]
macro_rules! machine {
    (
        $(#[$doc:meta])* $state:ident / $input:ident, $name:literal;
        states { $($(#[$sdoc:meta])* $s:ident),+ $(,)? }
        inputs { $($(#[$idoc:meta])* $i:ident),+ $(,)? }
        start $start:ident;
        $($from:ident --$on:ident--> $to:ident;)+
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $state { $($(#[$sdoc])* $s),+ }

        #[doc = concat!("What can happen to a [`", stringify!($state), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $input { $($(#[$idoc])* $i),+ }

        impl $crate::machine::Machine for $state {
            type Input = $input;
            const NAME: &'static str = $name;
            const START: Self = $state::$start;
            const TABLE: &'static [$crate::machine::Arrow<Self, $input>] = &[
                $($crate::machine::Arrow { from: $state::$from, on: $input::$on, to: $state::$to }),+
            ];
            const STATES: &'static [Self] = &[$($state::$s),+];
            const INPUTS: &'static [$input] = &[$($input::$i),+];
        }
    };
}

/// The flow chart of a machine as a Mermaid state diagram.
pub fn mermaid<M: Machine>() -> String {
    let mut out = format!("stateDiagram-v2\n  %% {}\n  [*] --> {:?}\n", M::NAME, M::START);
    for arrow in M::TABLE {
        out += &format!("  {:?} --> {:?}: {}\n", arrow.from, arrow.to, words(arrow.on));
    }
    for state in M::STATES {
        if !M::TABLE.iter().any(|arrow| arrow.from == *state) {
            out += &format!("  {state:?} --> [*]\n");
        }
    }
    out
}

/// The flow chart of a machine in Graphviz DOT.
pub fn dot<M: Machine>() -> String {
    let mut out = format!("digraph \"{}\" {{\n  start [shape=point];\n", M::NAME);
    out += &format!("  start -> {:?};\n", M::START);
    for arrow in M::TABLE {
        let label = words(arrow.on);
        out += &format!("  {:?} -> {:?} [label=\"{label}\"];\n", arrow.from, arrow.to);
    }
    out + "}\n"
}

/// `LinksMissing` as `links missing`.
fn words(input: impl std::fmt::Debug) -> String {
    let mut out = String::new();
    for c in format!("{input:?}").chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}
