/**
 * Every name by which the host knows us. They are fixed, so that `rescue.sh` (which repeats them; a test holds the two
 * together) can undo what we did without the journal, and distinct, so that nothing of anybody else is touched.
 */

/** The tunnel's interface. */
export const INTERFACE = 'culvert0'

/** SO_MARK of every outside socket of ours, and the mark that the policy rules let past: "culv" in ASCII. */
export const FWMARK = 0x63756c76

/** The route table of the tunnel. */
export const ROUTE_TABLE = FWMARK

/**
 * Priorities of our two policy rules, in both families. The first, under a profile with a default route, lets the main table
 * answer with anything but its own, so that the LAN stays the LAN; the second sends everything without our mark to the
 * tunnel's table.
 */
export const RULE_PRIORITIES = { main: 27_640, tunnel: 27_641 } as const

/** Our nftables table, family inet. */
export const NFT_TABLE = 'culvert'

/** The last route of the tunnel's table, in both families: any metric that no profile's own route has. */
export const UNREACHABLE_METRIC = 1_000_000

/** Lets the kernel take the mark into account when it checks a packet's source against the routes (ip-sysctl). */
export const SRC_VALID_MARK = 'net.ipv4.conf.all.src_valid_mark'

/** Where the socket, and the file with the helper's process id beside it, are. */
export const SOCKET_PATH = '/run/culvert/helper.sock'
export const PID_FILE = 'helper.pid'

/** Where profiles, settings and the journal are. */
export const STATE_DIRECTORY = '/var/lib/culvert'
export const JOURNAL_FILE = 'journal'
export const TARGET_FILE = 'target'
export const PROFILE_DIRECTORY = 'profiles'
export const SETTINGS_FILE = 'settings.json'

/** The group whose members may use the helper. */
export const GROUP = 'culvert'
