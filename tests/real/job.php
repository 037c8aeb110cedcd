<?php
// A job for tests/test_real_programs.sh: arrays, regular expressions and what its
// extensions allocate (PHP opens them with RTLD_DEEPBIND), and a child that fails.
// usage: USE_ZEND_ALLOC=0 php job.php ROUNDS
$rounds = (int)$argv[1];
$words = [];
for ($i = 0; $i < $rounds; $i++) {
    $word = 'w' . ($i * 7919) % 1009;
    $words[$word] = ($words[$word] ?? '') . $i . ',';
}
ksort($words);
$text = json_encode($words);
echo count($words), ' ', strlen($text), ' ', md5($text), "\n";
echo preg_match_all('/w(\d+)":"(\d+),/', $text, $found), ' ', array_sum($found[2]), "\n";
if (extension_loaded('mbstring')) {
    $wide = mb_convert_encoding(str_repeat("\u{e4}\u{20ac}\u{1f600}", 500), 'UTF-16', 'UTF-8');
    echo 'mbstring ', strlen($wide), ' ', mb_strlen($wide, 'UTF-16'), ' ',
        md5(mb_strtoupper(mb_convert_encoding($wide, 'UTF-8', 'UTF-16'))), "\n";
}
if (extension_loaded('dom')) {
    $document = new DOMDocument();
    $document->loadXML('<list>' . str_repeat('<item n="1">text</item>', 300) . '</list>');
    foreach ((new DOMXPath($document))->query('//item') as $n => $item)
        $item->setAttribute('n', (string)$n);
    echo 'xml ', md5($document->saveXML()), ' ',
        count(simplexml_import_dom($document)->item), "\n";
}
if (extension_loaded('iconv'))
    echo 'iconv ', md5(iconv('UTF-8', 'ISO-8859-1//TRANSLIT', str_repeat('abc', 1000))), "\n";
exec('/bin/false', $lines, $status);
echo "child $status\n";
exit(3);
