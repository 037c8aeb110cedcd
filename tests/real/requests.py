# The load for nginx in tests/test_real_programs.sh: some connections at once to its
# socket, many requests on each; prints what came, which is the same each time.
# usage: requests.py SOCKET REQUESTS
import hashlib, http.client, socket, sys, threading

PATHS = ["/", "/large.txt", "/none", "/list/"]


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(sys.argv[1])


def load(thread, answers):
    connection = Connection("localhost")
    for i in range(int(sys.argv[2])):
        path = PATHS[(i + thread) % len(PATHS)]
        headers = {"Accept-Encoding": "gzip"} if i % 8 == 2 else {}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        key = path, response.status, response.getheader("Content-Encoding")
        answers[key] = answers.get(key, 0) + 1
        answers[key, hashlib.md5(body).hexdigest()] = len(body)
    connection.close()


answers = [{} for _ in range(8)]
threads = [threading.Thread(target=load, args=(n, answers[n])) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for n, answer in enumerate(answers):
    for line in sorted(map(str, answer.items())):
        print(n, line)
