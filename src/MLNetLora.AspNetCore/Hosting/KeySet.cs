using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore;

/// <summary>
/// Keys of the options and of a file, which is looked at again and again. What is kept of one is its hash, so that all have one length; every one is compared,
/// in the same time. Thread-safe.
/// </summary>
/// <remarks>
/// Another content counts when two looks saw it, a file without keys too: who empties it takes all of its keys away, and one that is half written takes none.
/// A file that cannot be read says nothing about keys: those that it had count on.
/// </remarks>
internal sealed class KeySet : IDisposable
{
    private static readonly TimeSpan s_period = TimeSpan.FromSeconds(5);

    private readonly string _name;
    private readonly string? _file;
    private readonly ServingState _state;
    private readonly ILogger _log;
    private readonly byte[][] _fixed;
    private readonly Lock _looking = new();
    private readonly ITimer? _timer;
    private volatile byte[][] _ofFile = [];
    private byte[][]? _seen; // by the last look, and not what counts

    /// <summary>Reads the file once, and then every five seconds.</summary>
    /// <param name="name">What they are called in the log and in health.</param>
    /// <param name="keys">Those of the options.</param>
    /// <param name="file">The file with more of them; null for none.</param>
    /// <param name="time">When it is looked at.</param>
    /// <param name="state">Told what is wrong with the file.</param>
    /// <param name="log">Told too.</param>
    public KeySet(string name, IEnumerable<string> keys, string? file, TimeProvider time, ServingState state, ILogger log)
    {
        (_name, _file, _state, _log) = (name, file, state, log);
        _fixed = [.. keys.Select(Hash)];
        if (file is not null)
        {
            Look();
            if (_seen is not null)
            {
                Look(); // at the start there is nothing that it could take away
            }

            _timer = time.CreateTimer(_ => Look(), null, s_period, s_period);
        }
    }

    /// <summary>Whether a key is needed; also where the file has none any more.</summary>
    public bool IsThere => _fixed.Length > 0 || _file is not null;

    /// <summary>Whether a key is one of them.</summary>
    public bool Has(string key)
    {
        byte[] hash = Hash(key);
        bool found = false;
        foreach (byte[] known in (byte[][])[.. _fixed, .. _ofFile])
        {
            found |= CryptographicOperations.FixedTimeEquals(hash, known);
        }

        return found;
    }

    /// <inheritdoc/>
    public void Dispose() => _timer?.Dispose();

    private void Look()
    {
        lock (_looking)
        {
            byte[][] keys;
            try
            {
                keys = [.. ApiKeys.Read(_file!).Select(Hash)];
            }
            catch (OptionException e)
            {
                _seen = null;
                Report($"{e.Message.TrimEnd('.')}. The keys that were there before count on; to take them away, empty the file.");
                return;
            }

            if (AreSame(keys, _ofFile))
            {
                _seen = null;
            }
            else if (_seen is null || !AreSame(keys, _seen))
            {
                _seen = keys;
                return;
            }
            else
            {
                (_ofFile, _seen) = (keys, null);
                if (keys.Length > 0)
                {
                    HostLog.KeysRead(_log, _name, keys.Length, _file!);
                }
            }

            if (keys.Length > 0)
            {
                _state.Clear(_name);
            }
            else
            {
                Report($"There is no key in {_file} any more. All that it had are revoked"
                    + (_fixed.Length > 0 ? ", and those of the options count on." : ", and every request that needs one is refused."));
            }
        }
    }

    private void Report(string reason)
    {
        if (_state.Report(new ServingIssue(_name, reason, IsMissing: false)))
        {
            HostLog.KeysFailed(_log, _name, reason);
        }
    }

    /// <summary>What is kept of a key.</summary>
    public static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    private static bool AreSame(byte[][] a, byte[][] b) =>
        a.Length == b.Length && a.Zip(b).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second));
}
