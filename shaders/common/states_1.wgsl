// The state of a unit beside h: one number.
const STATES = 1u;
alias State = f32;

fn plane(state: State, s: u32) -> f32 {
    return state;
}

fn with_plane(state: State, s: u32, value: f32) -> State {
    return value;
}
