// RUN: tilewright opt %s -p "plan-memory" | filecheck %s

tile.kernel @f(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = []} {
  %a = tile.load %x[0] : f32
  tile.store %y[0], %a
}
tile.kernel @g(%x: !tile.ref<f32>, %y: !tile.ref<f32>, %z: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[2]>, sizes = []} {
  %a = tile.load %x[0] : f32
  %b = tile.load %y[0] : f32
  %c = tile.map "add" %a, %b : f32
  tile.store %z[0], %c
}

// The first and the third do not live together: they share bytes. The first and the second do: they must not.
// CHECK-LABEL: func.func @shares
// CHECK-NEXT:    %0 = prog.arena {size = #tw.dims<[128]>}
// CHECK-NEXT:    %a = prog.buffer %0 {offset = #tw.dims<[0]>, live = #tw.dims<[0, 1]>}
// CHECK:         %b = prog.buffer %0 {offset = #tw.dims<[64]>, live = #tw.dims<[1, 2]>}
// CHECK:         %c = prog.buffer %0 {offset = #tw.dims<[0]>, live = #tw.dims<[2, 3]>}
// CHECK:         prog.output
func.func @shares(%x: !prog.buffer<[8], [1], f32>) -> !prog.buffer<[8], [1], f32> {
  %a = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %x, %a : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %b = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %a, %b : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %c = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %b, %c : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %o = prog.output : !prog.buffer<[8], [1], f32>
  prog.launch @f %c, %o : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  prog.return %o : !prog.buffer<[8], [1], f32>
}

// A view keeps the memory that it looks at alive.
// CHECK-LABEL: func.func @view
// CHECK:         %a = prog.buffer %0 {offset = #tw.dims<[0]>, live = #tw.dims<[0, 2]>}
// CHECK:         %b = prog.buffer %0 {offset = #tw.dims<[64]>, live = #tw.dims<[1, 2]>}
func.func @view(%x: !prog.buffer<[8], [1], f32>) -> !prog.buffer<[8], [1], f32> {
  %a = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %x, %a : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %v = prog.view %a {offset = #tw.dims<[4]>} : !prog.buffer<[8], [1], f32> -> !prog.buffer<[4], [1], f32>
  %w = prog.view %v {offset = #tw.dims<[0]>} : !prog.buffer<[4], [1], f32> -> !prog.buffer<[4], [1], f32>
  %b = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %x, %b : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %o = prog.output : !prog.buffer<[8], [1], f32>
  prog.launch @g %w, %b, %o : !prog.buffer<[4], [1], f32>, !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  prog.return %o : !prog.buffer<[8], [1], f32>
}

// What an opaque call gives may be a view of what it got.
// CHECK-LABEL: func.func @opaque
// CHECK:         %a = prog.buffer %0 {offset = #tw.dims<[0]>, live = #tw.dims<[0, 3]>}
// CHECK:         %b = prog.buffer %0 {offset = #tw.dims<[64]>, live = #tw.dims<[2, 3]>}
func.func @opaque(%x: !prog.buffer<[8], [1], f32>) -> !prog.buffer<[8], [1], f32> {
  %a = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %x, %a : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %v = prog.extern "aten.alias.default" %a {arguments = "(['%0'], {})", reason = "not imported"} : (!prog.buffer<[8], [1], f32>) -> !prog.buffer<[8], [1], f32>
  %b = prog.alloc : !prog.buffer<[8], [1], f32>
  prog.launch @f %x, %b : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  %o = prog.output : !prog.buffer<[8], [1], f32>
  prog.launch @g %v, %b, %o : !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>, !prog.buffer<[8], [1], f32>
  prog.return %o : !prog.buffer<[8], [1], f32>
}

// Symbolic sizes come after the others and share with equal ones.
// CHECK-LABEL: func.func @symbolic
// CHECK-NEXT:    %0 = prog.arena {size = #tw.dims<["128*((4*s0 + 63)//64) + 64"]>}
// CHECK:         %a = prog.buffer %0 {offset = #tw.dims<[64]>
// CHECK:         %b = prog.buffer %0 {offset = #tw.dims<["64*((4*s0 + 63)//64) + 64"]>
// CHECK:         %c = prog.buffer %0 {offset = #tw.dims<[64]>
// CHECK:         %d = prog.buffer %0 {offset = #tw.dims<[0]>
func.func @symbolic(%x: !prog.buffer<[s0], [1], f32>) -> !prog.buffer<[s0], [1], f32> {
  %a = prog.alloc : !prog.buffer<[s0], [1], f32>
  prog.launch @f %x, %a : !prog.buffer<[s0], [1], f32>, !prog.buffer<[s0], [1], f32>
  %b = prog.alloc : !prog.buffer<[s0], [1], f32>
  prog.launch @f %a, %b : !prog.buffer<[s0], [1], f32>, !prog.buffer<[s0], [1], f32>
  %c = prog.alloc : !prog.buffer<[s0], [1], f32>
  prog.launch @f %b, %c : !prog.buffer<[s0], [1], f32>, !prog.buffer<[s0], [1], f32>
  %d = prog.alloc : !prog.buffer<[1], [1], f32>
  prog.launch @f %c, %d : !prog.buffer<[s0], [1], f32>, !prog.buffer<[1], [1], f32>
  %o = prog.output : !prog.buffer<[s0], [1], f32>
  prog.launch @f %d, %o : !prog.buffer<[1], [1], f32>, !prog.buffer<[s0], [1], f32>
  prog.return %o : !prog.buffer<[s0], [1], f32>
}
