//! Symmetric positive definite systems of which each block touches only the
//! next: factored and solved in time in proportion to the number of blocks.

/// One block of a right-hand side.
pub(super) type Vector<const SIZE: usize> = [f64; SIZE];

type Matrix<const SIZE: usize> = [[f64; SIZE]; SIZE];

/// Such a system; factored in place.
#[derive(Debug)]
pub(super) struct Blocks<const SIZE: usize> {
    // On the diagonal. Factored: lower triangles of their factors.
    own: Vec<Matrix<SIZE>>,
    // From each block to the next. Factored: what is left of it.
    across: Vec<Matrix<SIZE>>,
}

impl<const SIZE: usize> Blocks<SIZE> {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            own: vec![[[0.0; SIZE]; SIZE]; blocks],
            across: vec![[[0.0; SIZE]; SIZE]; blocks],
        }
    }

    pub(super) fn clear(&mut self) {
        self.own.fill([[0.0; SIZE]; SIZE]);
        self.across.fill([[0.0; SIZE]; SIZE]);
    }

    pub(super) fn own(&mut self, place: usize) -> &mut Matrix<SIZE> {
        &mut self.own[place]
    }

    /// From `place` (rows) to the block behind it (columns).
    pub(super) fn across(&mut self, place: usize) -> &mut Matrix<SIZE> {
        &mut self.across[place]
    }

    /// Factors it; false if rounding has made it indefinite.
    pub(super) fn factor(&mut self) -> bool {
        for place in 0..self.own.len() {
            if !cholesky(&mut self.own[place]) {
                return false;
            }
            if place + 1 == self.own.len() {
                break;
            }
            let factor = &self.own[place];
            let across = &mut self.across[place];
            for row in 0..SIZE {
                for before in 0..row {
                    let (part, solved) = (factor[row][before], across[before]);
                    for (cell, other) in across[row].iter_mut().zip(solved) {
                        *cell -= part * other;
                    }
                }
                for cell in &mut across[row] {
                    *cell /= factor[row][row];
                }
            }
            let across = self.across[place];
            let next = &mut self.own[place + 1];
            for above in &across {
                for row in 0..SIZE {
                    for column in 0..=row {
                        next[row][column] -= above[row] * above[column];
                    }
                }
            }
        }
        true
    }

    /// Replaces `sides` by the solution. It has been factored.
    pub(super) fn solve(&self, sides: &mut [Vector<SIZE>]) {
        let mut carried = [0.0; SIZE];
        for (place, side) in sides.iter_mut().enumerate() {
            let factor = &self.own[place];
            for row in 0..SIZE {
                let mut own = side[row] - carried[row];
                for before in 0..row {
                    own -= factor[row][before] * side[before];
                }
                side[row] = own / factor[row][row];
            }
            carried = [0.0; SIZE];
            for (row, across) in self.across[place].iter().enumerate() {
                for (carried, cell) in carried.iter_mut().zip(across) {
                    *carried += cell * side[row];
                }
            }
        }
        let mut behind = [0.0; SIZE];
        for (place, side) in sides.iter_mut().enumerate().rev() {
            let (factor, across) = (&self.own[place], &self.across[place]);
            for row in (0..SIZE).rev() {
                let mut own = side[row];
                for (cell, behind) in across[row].iter().zip(&behind) {
                    own -= cell * behind;
                }
                for after in row + 1..SIZE {
                    own -= factor[after][row] * side[after];
                }
                side[row] = own / factor[row][row];
            }
            behind = *side;
        }
    }
}

/// The lower triangle of the factor, in place of the lower triangle.
fn cholesky<const SIZE: usize>(matrix: &mut Matrix<SIZE>) -> bool {
    for row in 0..SIZE {
        for column in 0..=row {
            let mut cell = matrix[row][column];
            for (own, other) in matrix[row].iter().zip(&matrix[column]).take(column) {
                cell -= own * other;
            }
            if row == column {
                if !(cell > 0.0) {
                    return false;
                }
                matrix[row][row] = cell.sqrt();
            } else {
                matrix[row][column] = cell / matrix[column][column];
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn what_is_solved_solves_it() {
        let mut stream = Stream::new(1, "blocks");
        let mut draw = || stream.uniform() - 0.5;
        let mut blocks = Blocks::<3>::new(40);
        for place in 0..40 {
            for row in 0..3 {
                for column in 0..row {
                    let cell = draw();
                    blocks.own(place)[row][column] = cell;
                    blocks.own(place)[column][row] = cell;
                }
                // Larger than all beside it: positive definite.
                blocks.own(place)[row][row] = 5.0;
                for column in 0..3 {
                    blocks.across(place)[row][column] = if place < 39 { draw() } else { 0.0 };
                }
            }
        }
        let solution: Vec<Vector<3>> = (0..40).map(|_| [draw(), draw(), draw()]).collect();
        let mut sides = vec![[0.0; 3]; 40];
        for place in 0..40 {
            for row in 0..3 {
                for column in 0..3 {
                    sides[place][row] += blocks.own(place)[row][column] * solution[place][column];
                    if place < 39 {
                        let across = blocks.across(place)[row][column];
                        sides[place][row] += across * solution[place + 1][column];
                        sides[place + 1][column] += across * solution[place][row];
                    }
                }
            }
        }
        assert!(blocks.factor());
        blocks.solve(&mut sides);
        for (found, wanted) in sides.iter().flatten().zip(solution.iter().flatten()) {
            assert!((found - wanted).abs() < 1e-12, "{found} for {wanted}");
        }
    }
}
