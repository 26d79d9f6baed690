"""Feature mimicking: finding teachers, students' starting weights, hash functions, comparing student and teacher."""
