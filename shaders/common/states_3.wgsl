// The states of a unit beside h: three numbers.
const STATES = 3u;
alias State = vec3f;

fn plane(state: State, s: u32) -> f32 {
    return state[s];
}

fn with_plane(state: State, s: u32, value: f32) -> State {
    return select(state, vec3f(value), vec3u(s) == vec3u(0u, 1u, 2u));
}
