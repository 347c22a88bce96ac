// RUN: tilewright opt %s -p "simplify" | filecheck %s

// CHECK-LABEL: func.func @algebra
// CHECK-NEXT:    [[HALF:%.+]] = tw.constant {value = #tw.scalar<0.5>} : !tw.tensor<[], f32>
// CHECK-NEXT:    %b = tw.map "mul" %x, [[HALF]]
// CHECK-NEXT:    %c = tw.map "mul" %b, %b
// CHECK-NEXT:    tw.return %c
func.func @algebra(%x: !tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32> {
  %one = tw.constant {value = #tw.scalar<1.0>} : !tw.tensor<[], f32>
  %two = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[], f32>
  %a = tw.map "mul" %one, %x : (!tw.tensor<[], f32>, !tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32>
  %b = tw.map "div" %a, %two : (!tw.tensor<[s0], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[s0], f32>
  %c = tw.map "pow" %b, %two : (!tw.tensor<[s0], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[s0], f32>
  tw.return %c : !tw.tensor<[s0], f32>
}

// -0.0 + 0.0 is 0.0, and NaN * 0.0 is NaN.
// CHECK-LABEL: func.func @left_alone
// CHECK:         tw.map "add"
// CHECK:         tw.map "mul"
func.func @left_alone(%x: !tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32> {
  %zero = tw.constant {value = #tw.scalar<0.0>} : !tw.tensor<[], f32>
  %a = tw.map "add" %x, %zero : (!tw.tensor<[s0], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[s0], f32>
  %b = tw.map "mul" %a, %zero : (!tw.tensor<[s0], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[s0], f32>
  tw.return %b : !tw.tensor<[s0], f32>
}

// Rounding to bf16 and back stays; a cast to more digits and back goes.
// CHECK-LABEL: func.func @casts
// CHECK-NEXT:    [[N:%.+]] = tw.map "cast" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], bf16>
// CHECK-NEXT:    %b = tw.map "cast" [[N]] : (!tw.tensor<[4], bf16>) -> !tw.tensor<[4], f32>
// CHECK-NEXT:    tw.return %b, %x
func.func @casts(%x: !tw.tensor<[4], f32>) -> (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) {
  %a = tw.map "cast" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], bf16>
  %b = tw.map "cast" %a : (!tw.tensor<[4], bf16>) -> !tw.tensor<[4], f32>
  %c = tw.map "cast" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f64>
  %d = tw.map "cast" %c : (!tw.tensor<[4], f64>) -> !tw.tensor<[4], f32>
  tw.return %b, %d : !tw.tensor<[4], f32>, !tw.tensor<[4], f32>
}

// The causal mask as models write it: positions that bounds decide go, the comparison of rows and columns stays small,
// the padding mask is read without a gather.
// CHECK-LABEL: func.func @mask
// CHECK-NOT:     tw.gather
// CHECK-NOT:     "ge"
// CHECK-NOT:     "where"
// CHECK:         %le = tw.map "le"
// CHECK-NOT:     tw.gather
// CHECK:         %all = tw.map "and" %le,
// CHECK-NEXT:    tw.return %all
func.func @mask(%pad: !tw.tensor<[s0, s1], bool>) -> !tw.tensor<[s0, 1, s1, s1], bool> {
  %zero = tw.constant {value = #tw.scalar<0>} : !tw.tensor<[], i64>
  %true = tw.constant {value = #tw.scalar<true>} : !tw.tensor<[], bool>
  %i = tw.iota {dim = #tw.dims<[0]>, start = #tw.dims<[0]>, step = #tw.dims<[1]>} : !tw.tensor<[s1], i64>
  %batch = tw.iota {dim = #tw.dims<[0]>, start = #tw.dims<[0]>, step = #tw.dims<[1]>} : !tw.tensor<[s0], i64>
  %row = tw.reshape %i : !tw.tensor<[s1], i64> -> !tw.tensor<[s1, 1], i64>
  %le = tw.map "le" %i, %row : (!tw.tensor<[s1], i64>, !tw.tensor<[s1, 1], i64>) -> !tw.tensor<[s1, s1], bool>
  %ok = tw.map "ge" %i, %zero : (!tw.tensor<[s1], i64>, !tw.tensor<[], i64>) -> !tw.tensor<[s1], bool>
  %a = tw.map "and" %le, %ok : (!tw.tensor<[s1, s1], bool>, !tw.tensor<[s1], bool>) -> !tw.tensor<[s1, s1], bool>
  %b = tw.map "and" %a, %true : (!tw.tensor<[s1, s1], bool>, !tw.tensor<[], bool>) -> !tw.tensor<[s1, s1], bool>
  %c = tw.broadcast %b : !tw.tensor<[s1, s1], bool> -> !tw.tensor<[s0, 1, s1, s1], bool>
  %b1 = tw.reshape %batch : !tw.tensor<[s0], i64> -> !tw.tensor<[s0, 1, 1, 1], i64>
  %b2 = tw.broadcast %b1 : !tw.tensor<[s0, 1, 1, 1], i64> -> !tw.tensor<[s0, 1, 1, s1], i64>
  %k2 = tw.broadcast %i : !tw.tensor<[s1], i64> -> !tw.tensor<[s0, 1, 1, s1], i64>
  %p = tw.gather %pad at %b2, %k2 {dims = #tw.dims<[0, 1]>, wrap = #tw.scalar<true>} : !tw.tensor<[s0, s1], bool>, !tw.tensor<[s0, 1, 1, s1], i64>, !tw.tensor<[s0, 1, 1, s1], i64> -> !tw.tensor<[s0, 1, 1, s1], bool>
  %all = tw.map "and" %c, %p : (!tw.tensor<[s0, 1, s1, s1], bool>, !tw.tensor<[s0, 1, 1, s1], bool>) -> !tw.tensor<[s0, 1, s1, s1], bool>
  tw.return %all : !tw.tensor<[s0, 1, s1, s1], bool>
}

// Only the kept half is computed.
// CHECK-LABEL: func.func @slices
// CHECK-NEXT:    [[S:%.+]] = tw.slice %x
// CHECK-NEXT:    %h = tw.map "exp" [[S]] : (!tw.tensor<[s0, 4], f32>)
// CHECK-NEXT:    tw.return %h, %x
func.func @slices(%x: !tw.tensor<[s0, 8], f32>, %y: !tw.tensor<[s0, 8], f32>) -> (!tw.tensor<[s0, 4], f32>, !tw.tensor<[s0, 8], f32>) {
  %e = tw.map "exp" %x : (!tw.tensor<[s0, 8], f32>) -> !tw.tensor<[s0, 8], f32>
  %h = tw.slice %e {starts = #tw.dims<[0, 4]>, steps = #tw.dims<[1, 1]>} : !tw.tensor<[s0, 8], f32> -> !tw.tensor<[s0, 4], f32>
  %c = tw.concat %y, %x {dim = #tw.dims<[1]>} : (!tw.tensor<[s0, 8], f32>, !tw.tensor<[s0, 8], f32>) -> !tw.tensor<[s0, 16], f32>
  %s = tw.slice %c {starts = #tw.dims<[0, 8]>, steps = #tw.dims<[1, 1]>} : !tw.tensor<[s0, 16], f32> -> !tw.tensor<[s0, 8], f32>
  tw.return %h, %s : !tw.tensor<[s0, 4], f32>, !tw.tensor<[s0, 8], f32>
}
