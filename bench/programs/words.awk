# A job for the benchmark: a concordance, as words.pl makes one. Strings that grow by
# concatenation, arrays, split().
# usage: gawk -v n=WORDS -f words.awk
function below(limit) {    # the same on every machine
    state = (state * 1103515 + 12345) % 2147483648
    return int(state / 2147483648 * limit)
}
BEGIN {
    n = n ? n : 100000
    state = 42
    split("ka ro mi ta nel sho ver du lin gra pe os tri un ba fel", syllable, " ")
    for (i = 1; i <= n; i++) {
        word = ""
        for (k = below(6); k >= 0; k--)
            word = word syllable[1 + below(16)]
        places[word] = places[word] " " i
        count[word]++
    }
    for (word in places) {
        many = split(places[word], each, " ")
        for (k = 1; k <= many; k++)
            sum += each[k] % 7
        line = word ":" toupper(substr(places[word], 1, 40))
        lines[length(line)]++
    }
    for (word in count)
        if (count[word] % 2)
            delete places[word]
    for (size in lines)
        total += size * lines[size]
    print length(count), length(places), sum, total
}
