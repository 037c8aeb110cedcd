<?php
// A job for the benchmark: trees of objects, arrays of arrays, small strings. Meant to run
// with USE_ZEND_ALLOC=0, so that each of them is a malloc.
// usage: php objects.php [ROUNDS]
class Node {
    public $left, $right, $name;
    function __construct($left, $right, $name) {
        $this->left = $left;
        $this->right = $right;
        $this->name = $name;
    }
}
function build($depth, &$leaves) {
    if ($depth == 0)
        return new Node(null, null, "leaf " . $leaves++);
    return new Node(build($depth - 1, $leaves), build($depth - 1, $leaves), "depth " . $depth);
}
function weigh($node) {
    return $node === null ? 0 : strlen($node->name) + weigh($node->left) + weigh($node->right);
}
$sum = $leaves = 0;
for ($i = 0; $i < (int)($argv[1] ?? 12); $i++) {
    $sum += weigh(build(14, $leaves));
    $lists = [];
    for ($k = 0; $k < 30000; $k++)
        $lists["key " . $k % 997][] = [$k, "value $k"];
    $sum += count($lists);
}
echo "$sum $leaves\n";
