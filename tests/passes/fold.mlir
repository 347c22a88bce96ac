// RUN: tilewright opt %s -p "fold" | filecheck %s

// CHECK-LABEL: func.func @rounded_to_the_dtype
// CHECK-NEXT:    %c = tw.constant {value = #tw.scalar<0.30078125>} : !tw.tensor<[s0], bf16>
// CHECK-NEXT:    tw.return %c
func.func @rounded_to_the_dtype(%x: !tw.tensor<[s0], bf16>) -> !tw.tensor<[s0], bf16> {
  %a = tw.constant {value = #tw.scalar<0.10009765625>} : !tw.tensor<[s0], bf16>
  %b = tw.constant {value = #tw.scalar<0.2001953125>} : !tw.tensor<[], bf16>
  %c = tw.map "add" %a, %b : (!tw.tensor<[s0], bf16>, !tw.tensor<[], bf16>) -> !tw.tensor<[s0], bf16>
  tw.return %c : !tw.tensor<[s0], bf16>
}

// CHECK-LABEL: func.func @integers_wrap
// CHECK-NEXT:    %c = tw.constant {value = #tw.scalar<-128>} : !tw.tensor<[], i8>
func.func @integers_wrap() -> !tw.tensor<[], i8> {
  %a = tw.constant {value = #tw.scalar<127>} : !tw.tensor<[], i8>
  %b = tw.constant {value = #tw.scalar<1>} : !tw.tensor<[], i8>
  %c = tw.map "add" %a, %b : (!tw.tensor<[], i8>, !tw.tensor<[], i8>) -> !tw.tensor<[], i8>
  tw.return %c : !tw.tensor<[], i8>
}

// CHECK-LABEL: func.func @what_is_not_defined_or_not_exact_stays
// CHECK:         tw.map "cast"
// CHECK:         tw.map "exp"
func.func @what_is_not_defined_or_not_exact_stays() -> (!tw.tensor<[], i64>, !tw.tensor<[], f32>) {
  %a = tw.constant {value = #tw.scalar<"nan">} : !tw.tensor<[], f32>
  %b = tw.map "cast" %a : (!tw.tensor<[], f32>) -> !tw.tensor<[], i64>
  %one = tw.constant {value = #tw.scalar<1.0>} : !tw.tensor<[], f32>
  %c = tw.map "exp" %one : (!tw.tensor<[], f32>) -> !tw.tensor<[], f32>
  tw.return %b, %c : !tw.tensor<[], i64>, !tw.tensor<[], f32>
}

// CHECK-LABEL: func.func @reductions
// CHECK-NEXT:    %s = tw.constant {value = #tw.scalar<36>} : !tw.tensor<[1, 1], i64>
// CHECK-NEXT:    %n = tw.constant {value = #tw.scalar<false>} : !tw.tensor<[3, 1], bool>
// CHECK-NEXT:    tw.return %s, %n
func.func @reductions(%x: !tw.tensor<[3, 0], bool>) -> (!tw.tensor<[1, 1], i64>, !tw.tensor<[3, 1], bool>) {
  %a = tw.constant {value = #tw.scalar<3>} : !tw.tensor<[3, 4], i64>
  %s = tw.reduce "sum" %a {dims = #tw.dims<[0, 1]>} : !tw.tensor<[3, 4], i64> -> !tw.tensor<[1, 1], i64>
  %n = tw.reduce "any" %x {dims = #tw.dims<[1]>} : !tw.tensor<[3, 0], bool> -> !tw.tensor<[3, 1], bool>
  tw.return %s, %n : !tw.tensor<[1, 1], i64>, !tw.tensor<[3, 1], bool>
}
